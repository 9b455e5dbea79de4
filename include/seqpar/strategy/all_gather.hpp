#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/outstanding.hpp>
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

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x) {
            const int rank = comm_.rank(), size = comm_.size();
            const auto memory = local.how.memory;
            const auto shape_of = [&](int r, const tensor_view<const T>& like) {
                const origin& at = where[static_cast<std::size_t>(r)].keys;
                return extents{like.shape().batch, at.rows.size(), at.heads.count, like.shape().dim};
            };
            std::vector<parcel> held(where.size()), streamed(where.size()); // of each rank: K (and V); V
            std::vector<tensor_view<T>> k(where.size()), v(where.size());

            std::vector<incoming> everyone;
            for (std::size_t r = 0; r < where.size(); ++r) {
                const extents ks = shape_of(static_cast<int>(r), x.k), vs = shape_of(static_cast<int>(r), x.v);
                held[r] = parcel(tensor<T>::bytes(ks) + (stream_ == 0 ? tensor<T>::bytes(vs) : 0), memory);
                k[r] = held[r].template carve<T>(ks);
                if (stream_ == 0) v[r] = held[r].template carve<T>(vs);
                everyone.push_back(held[r].in());
            }
            const std::size_t me = static_cast<std::size_t>(rank);
            if (stream_ != 0) v[me] = receive<T>(streamed[me], shape_of(rank, x.v), memory);
            copy(x.k, k[me]);
            copy(x.v, v[me]);
            collective::all_gather(comm_, held[me].out(), std::span<const incoming>(everyone));

            const block<const T> q{x.q, where[me].queries};
            partial<accumulator_t<T>> seen(x.out.shape(), memory);
            const std::vector<std::vector<int>> rounds = owners(rank, size);
            for (std::size_t i = 0; i < rounds.size(); ++i) {
                outstanding<C> travelling;
                if (i + 1 < rounds.size())
                    for (const int from : rounds[i + 1]) {
                        const std::size_t r = static_cast<std::size_t>(from);
                        v[r] = receive<T>(streamed[r], shape_of(from, x.v), memory);
                        travelling.add(comm_.exchange(streamed[me].out(), (2 * rank - from + size) % size,
                                                      streamed[r].in(), from));
                    }
                std::vector<key_block<T>> keys;
                for (const int r : rounds[i]) {
                    const std::size_t at = static_cast<std::size_t>(r);
                    keys.push_back({k[at], v[at], where[at].keys});
                }
                local.fold(q, std::span<const key_block<T>>(keys), seen, travelling);
                travelling.wait();
                for (const int r : rounds[i])
                    if (r != rank) streamed[static_cast<std::size_t>(r)] = {};
            }
            seen.finish(x.out, x.lse);
        }

    private:
        template <element T>
        static tensor_view<T> receive(parcel& into, const extents& shape, std::pmr::memory_resource* memory) {
            into = parcel(tensor<T>::bytes(shape), memory);
            return into.template carve<T>(shape);
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
