#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/outstanding.hpp>
#include <seqpar/plan/all_gather_cost.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// Every rank gathers all of K and computes its own rows against it. V is gathered with K, or streamed: `stream` blocks of
/// V arrive in a round, while those of the round before are computed.
/// (Gathered K, V: Llama 3 training, arXiv:2407.21783, section 3.3.2.)
///
/// A rank sends 2 n k (P - 1) elements, n = N / P rows, k = kv_heads * head_dim. Gathered: P - 1 messages and rounds; 2 N k
/// held; keys are folded in global order, so the result is bit for bit that of serial. Streamed: 2 (P - 1) messages,
/// P - 1 + ceil((P - 1) / stream) rounds; N k + (2 stream + 1) n k held.
struct all_gather {
    int stream = 0; ///< blocks of V a round; 0: V is gathered with K

    template <communicator C>
    class bound {
    public:
        bound(C comm, int stream) : comm_(std::move(comm)), stream_(stream) {}

        /// K, and V unless it is streamed, of every rank.
        template <element T>
        struct saved {
            std::vector<parcel> held;
            std::vector<tensor_view<T>> k, v;
        };

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x,
                     saved<T>* keep = nullptr) {
            saved<T> mine;
            saved<T>& gathered = keep != nullptr ? *keep : mine;
            gather(local, where, x, gathered);
            const block<const T> q{x.q, where[static_cast<std::size_t>(comm_.rank())].queries};
            partial<accumulator_t<T>> seen(x.out.shape(), local.how.memory);
            each_round(local, where, x, gathered, [&](const std::vector<int>&, auto keys, auto& travelling) {
                local.fold(q, keys, seen, travelling);
            });
            local.template finish<T>(seen, q.at, x);
        }

        /// The gradients of everyone's keys that this rank's queries cause, then one reduce-scatter that brings each rank
        /// the sum of its own.
        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>& kept) {
            using A = accumulator_t<T>;
            const auto memory = local.how.memory;
            const std::size_t me = static_cast<std::size_t>(comm_.rank());
            saved<T> again;
            if (kept.held.empty()) gather(local, where, x, again);
            const saved<T>& gathered = kept.held.empty() ? again : kept;

            const block<const T> q{x.q, where[me].queries};
            std::vector<kv_parcel<A>> caused;
            for (const placement& p : where) {
                const index_t batch = x.q.shape().batch, dim = x.k.shape().dim, dim_v = x.v.shape().dim;
                caused.emplace_back(kv_parcel<A>::bytes(p.keys, batch, dim, dim_v), memory);
                caused.back().shape(p.keys, batch, dim, dim_v);
                caused.back().clear();
            }
            each_round(local, where, x, gathered, [&](const std::vector<int>& ranks, auto keys, auto& travelling) {
                std::vector<key_gradients<A>> dkv;
                for (const int r : ranks) {
                    const kv_parcel<A>& of = caused[static_cast<std::size_t>(r)];
                    dkv.push_back({of.k(), of.v()});
                }
                local.fold_back(q, g.rows, keys, g.dq, std::span<const key_gradients<A>>(dkv), travelling);
            });
            std::vector<std::span<const A>> parts;
            for (const kv_parcel<A>& of : caused) parts.push_back(of.elements());
            collective::reduce_scatter<A>(
                comm_, parts, caused[me].elements(), [](A& into, const A& from) { into += from; }, memory);
            accumulate(caused[me].k(), g.dk);
            accumulate(caused[me].v(), g.dv);
        }

    private:
        [[nodiscard]] static extents shape_of(const placement& p, const auto& like) {
            return {like.shape().batch, p.keys.rows.size(), p.keys.heads.count, like.shape().dim};
        }

        /// Brings K, and V unless it is streamed, of every rank to every rank.
        template <element T, class Local>
        void gather(const Local& local, std::span<const placement> where, const operands<T>& x, saved<T>& into) {
            const std::size_t me = static_cast<std::size_t>(comm_.rank());
            into.held.resize(where.size()), into.k.resize(where.size()), into.v.resize(where.size());
            std::vector<incoming> everyone;
            for (std::size_t r = 0; r < where.size(); ++r) {
                into.k[r] = {nullptr, shape_of(where[r], x.k)};
                into.v[r] = {nullptr, shape_of(where[r], x.v)};
                into.held[r] = stream_ == 0 ? parcel::room_for(local.how.memory, into.k[r], into.v[r])
                                            : parcel::room_for(local.how.memory, into.k[r]);
                everyone.push_back(into.held[r].in());
            }
            copy(x.k, into.k[me]);
            if (stream_ == 0) copy(x.v, into.v[me]);
            collective::all_gather(comm_, into.held[me].out(), std::span<const incoming>(everyone));
        }

        /// Calls compute(ranks, their keys, what travels) for the keys of each round, while the V of the next one travels.
        template <element T, class Local, class Compute>
        void each_round(const Local& local, std::span<const placement> where, const operands<T>& x,
                        const saved<T>& gathered, const Compute& compute) {
            const int rank = comm_.rank(), size = comm_.size();
            const std::size_t me = static_cast<std::size_t>(rank);
            std::vector<tensor_view<T>> v = gathered.v;
            std::vector<parcel> streamed(where.size());
            if (stream_ != 0) {
                streamed[me] = parcel::room_for(local.how.memory, v[me]);
                copy(x.v, v[me]);
            }
            const std::vector<std::vector<int>> rounds = owners(rank, size);
            for (std::size_t i = 0; i < rounds.size(); ++i) {
                outstanding<C> travelling;
                if (i + 1 < rounds.size())
                    for (const int from : rounds[i + 1]) {
                        const std::size_t r = static_cast<std::size_t>(from);
                        streamed[r] = parcel::room_for(local.how.memory, v[r]);
                        travelling.add(comm_.exchange(streamed[me].out(), (2 * rank - from + size) % size,
                                                      streamed[r].in(), from));
                    }
                std::vector<key_block<T>> keys;
                for (const int r : rounds[i]) {
                    const std::size_t at = static_cast<std::size_t>(r);
                    keys.push_back({gathered.k[at], v[at], where[at].keys});
                }
                compute(rounds[i], std::span<const key_block<T>>(keys), travelling);
                travelling.wait();
                for (const int r : rounds[i])
                    if (r != rank) streamed[static_cast<std::size_t>(r)] = {};
            }
        }

        /// Whose values are computed in each round: everyone's at once, or the own first and then `stream` at a time.
        [[nodiscard]] std::vector<std::vector<int>> owners(int rank, int size) const {
            std::vector<std::vector<int>> rounds(1);
            for (int distance = 0; distance < size; ++distance) {
                if (stream_ != 0 && distance >= 1 && (distance - 1) % stream_ == 0) rounds.emplace_back();
                rounds.back().push_back((rank - distance + size) % size);
            }
            return rounds;
        }

        C comm_;
        int stream_;
    };

    template <communicator C>
    [[nodiscard]] bound<C> on(C& comm) const {
        check(comm.size());
        return {comm, stream};
    }
    void check(int) const {
        if (stream < 0)
            throw refusal(detail::concat("all-gather that streams ", stream,
                                         " blocks of V a round: allowed are 1 and more, or 0 to gather V with K"));
    }
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const {
        return plan::all_gather_cost(p, rank, stream);
    }
    [[nodiscard]] std::string name() const {
        return stream == 0 ? "all-gather" : "all-gather:stream=" + std::to_string(stream);
    }
};
static_assert(strategy<all_gather>);

} // namespace seqpar
