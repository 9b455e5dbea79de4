#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/plan/tree_cost.hpp>
#include <seqpar/strategy/merge_results.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <cstddef>
#include <memory_resource>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// K, V stay. Queries are computed against the keys of every rank where those are, and the softmaxes of a row over the
/// ranks' keys are merged: the operation of a reduction is the merge of partials, and a finished (out, lse) is all that it
/// needs to send. For few queries and many keys: nothing that is sent grows with the keys.
/// (Shyam et al. 2024, Tree Attention, arXiv:2408.04093.)
///
/// Each rank with rows of Q of its own: Q is gathered, and results go where the rows live, a reduce-scatter. A rank sends
/// n h m elements of Q and, in the accumulation type, n m (h + H) of results, in 2 m messages and rounds; a result travels
/// while the next is computed. n = N / P rows, m = P - 1, h = H * head_dim. Holds N h elements and N (h + H) accumulators.
/// Results are merged in the order of ranks, whoever holds the row and whichever came first. Queries that see none of a
/// rank's keys are not sent to it.
///
/// Backward: dout, lse, delta and, unless it was kept, Q are gathered; dk and dv stay at home; dq goes where the rows live,
/// added up in the order of ranks. A rank sends n h m elements, n h m more where Q was not kept, and n m (2H + h)
/// accumulators, in 2 m messages and rounds.
///
/// Every rank with the same S rows of Q (decoding; the placements say so): an all-reduce by recursive doubling, after which
/// every rank has the same bits. S (h + H) accumulators a round, in backward S h, in log2 P rounds if P is a power of two,
/// else at most floor(log2 P) + 1 messages and floor(log2 P) + 2 rounds. The dq of every rank is the whole gradient.
struct tree {
    template <communicator C>
    class bound {
    public:
        explicit bound(C comm) : comm_(std::move(comm)) {}

        /// Q of the other ranks that may see this rank's keys.
        template <element T>
        struct saved {
            std::vector<parcel> held;
            std::vector<tensor_view<T>> q;
        };

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x,
                     saved<T>* keep = nullptr) {
            using A = accumulator_t<T>;
            const auto memory = local.how.memory;
            const std::size_t me = static_cast<std::size_t>(comm_.rank());
            const key_block<T> own{x.k, x.v, where[me].keys};
            if (plan::same_queries(where)) {
                nothing travelling;
                result<A> mine = softmax_over(own, local, block<const T>{x.q, where[me].queries}, travelling);
                all_reduce_results(comm_, mine, memory);
                partial<A> whole(x.out.shape(), memory);
                whole.merge(mine.out, mine.lse);
                local.template finish<T>(whole, where[me].queries, x);
                return;
            }
            saved<T> mine;
            saved<T>& gathered = keep != nullptr ? *keep : mine;
            gathered.q.resize(where.size());
            gathered.held = gather(local, where, shared_rows<T>{x.q, gathered.q});
            const auto softmax_of = [&](std::size_t peer, auto& travelling) {
                const tensor_view<const T> q = peer == me ? x.q : gathered.q[peer];
                result<A> made = softmax_over(own, local, block<const T>{q, where[peer].queries}, travelling);
                if (keep == nullptr) gathered.held[peer] = {};
                return made;
            };
            const auto results =
                serve<result<A>>(local, where, softmax_of, [&] { return result<A>(x.out.shape(), memory); });
            partial<A> seen(x.out.shape(), memory);
            for (std::size_t r = 0; r < where.size(); ++r)
                if (local.sees(where[me].queries, where[r].keys)) seen.merge(results[r].out, results[r].lse);
            local.template finish<T>(seen, where[me].queries, x);
        }

        /// What the rows of every rank need goes where the keys are, and their dq comes back.
        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>& kept) {
            using A = accumulator_t<T>;
            const auto memory = local.how.memory;
            const std::size_t me = static_cast<std::size_t>(comm_.rank()), size = where.size();
            const key_block<T> own{x.k, x.v, where[me].keys};
            const key_gradients<A> dkv{g.dk, g.dv};
            const auto caused_by = [&](const tensor_view<const T>& q, const origin& at, const row_gradients<T>& rows,
                                       auto& travelling) {
                query_gradients<A> made(q.shape(), memory);
                clear(made.dq);
                local.fold_back(block<const T>{q, at}, rows, std::span(&own, 1), made.dq, std::span(&dkv, 1),
                                travelling);
                return made;
            };
            if (plan::same_queries(where)) {
                nothing travelling;
                query_gradients<A> mine = caused_by(x.q, where[me].queries, g.rows, travelling);
                if (size > 1) {
                    query_gradients<A> theirs(x.q.shape(), memory);
                    collective::all_reduce_doubling(comm_, mine.message.in(), theirs.message.in(),
                                                    [&](bool) { accumulate(theirs.dq, mine.dq); });
                }
                accumulate(mine.dq, g.dq);
                return;
            }
            std::vector<tensor_view<A>> lse(size), delta(size);
            std::vector<tensor_view<T>> dout(size), q_again(size);
            const bool send_q = kept.held.empty();
            std::vector<parcel> held = gather(local, where, shared_rows<A>{g.rows.lse, lse},
                                              shared_rows<A>{g.rows.delta, delta}, shared_rows<T>{g.rows.dout, dout},
                                              shared_rows<T>{send_q ? x.q : tensor_view<const T>{}, q_again});
            const std::vector<tensor_view<T>>& q = send_q ? q_again : kept.q;
            const auto gradients_of = [&](std::size_t peer, auto& travelling) {
                if (peer == me) return caused_by(x.q, where[me].queries, g.rows, travelling);
                auto made = caused_by(q[peer], where[peer].queries, {dout[peer], lse[peer], delta[peer]}, travelling);
                held[peer] = {};
                return made;
            };
            const auto parts = serve<query_gradients<A>>(local, where, gradients_of,
                                                         [&] { return query_gradients<A>(x.q.shape(), memory); });
            for (std::size_t r = 0; r < size; ++r)
                if (local.sees(where[me].queries, where[r].keys)) accumulate(parts[r].dq, g.dq);
        }

    private:
        template <element A>
        using result = softmax_result<A>;

        /// What some keys add to dq: one message.
        template <element A>
        struct query_gradients {
            query_gradients() = default;
            query_gradients(const extents& shape, std::pmr::memory_resource* memory)
                : dq(nullptr, shape), message(parcel::room_for(memory, dq)) {}

            tensor_view<A> dq; // [batch, rows, heads, head_dim]
            parcel message;
        };

        /// A tensor of rows that others need: this rank's, and those of each rank once they are here. A default view: it is
        /// not sent.
        template <element T>
        struct shared_rows {
            tensor_view<const T> mine;           ///< [batch, n, heads, dim]
            std::vector<tensor_view<T>>& theirs; ///< [batch, their rows, heads, dim], by rank

            [[nodiscard]] extents shape_of(const origin& at) const {
                return {mine.shape().batch, at.rows.size(), at.heads.count, mine.shape().dim};
            }
        };

        /// Sends this rank's rows of some tensors, in one message, to every rank that has keys that they may see, and brings
        /// those of the ranks that may see this rank's. Wider elements first.
        template <class Local, element... T>
        [[nodiscard]] std::vector<parcel> gather(const Local& local, std::span<const placement> where,
                                                 const shared_rows<T>&... rows) {
            const std::size_t me = static_cast<std::size_t>(comm_.rank());
            const parcel own = parcel::packed<T...>(local.how.memory, rows.mine...);
            std::vector<parcel> held(where.size());
            std::vector<outgoing> out(where.size());
            std::vector<incoming> in(where.size());
            for (std::size_t r = 0; r < where.size(); ++r) {
                if (r == me) continue;
                if (local.sees(where[me].queries, where[r].keys)) out[r] = own.out();
                if (!local.sees(where[r].queries, where[me].keys)) continue;
                ((rows.theirs[r] = {nullptr, rows.shape_of(where[r].queries)}), ...);
                held[r] = parcel::room_for(local.how.memory, rows.theirs[r]...);
                in[r] = held[r].in();
            }
            collective::all_to_all(comm_, std::span<const outgoing>(out), std::span<const incoming>(in));
            return held;
        }

        /// make(r, what travels) for the rows of every rank r that may see this rank's keys, itself last: what is made goes
        /// to r while the next is made. Returns what came for this rank's rows, by the rank whose keys it is of, with room
        /// from room().
        template <class Piece, class Local, class Make, class Room>
        [[nodiscard]] std::vector<Piece> serve(const Local& local, std::span<const placement> where, const Make& make,
                                               const Room& room) {
            const int rank = comm_.rank(), size = comm_.size();
            const placement& mine = where[static_cast<std::size_t>(rank)];
            std::vector<Piece> pieces(where.size());
            Piece leaving;
            request_t<C> travelling;
            for (int distance = 1; distance <= size; ++distance) {
                const int to = (rank + distance) % size, from = (rank - distance + size) % size;
                const std::size_t peer = static_cast<std::size_t>(to), source = static_cast<std::size_t>(from);
                Piece made;
                if (local.sees(where[peer].queries, mine.keys)) made = make(peer, travelling);
                travelling.wait();
                leaving = {};
                if (to == rank) {
                    pieces[peer] = std::move(made);
                    break;
                }
                leaving = std::move(made);
                if (local.sees(mine.queries, where[source].keys)) pieces[source] = room();
                travelling = comm_.exchange(leaving.message.out(), to, pieces[source].message.in(), from);
            }
            return pieces;
        }

        /// [batch, rows, heads, head_dim] -> their softmax over these keys, [batch, rows, heads, head_dim of v]
        template <element T, class Local, class Travelling, element A = accumulator_t<T>>
        [[nodiscard]] static result<A> softmax_over(const key_block<T>& keys, const Local& local,
                                                    const block<const T>& q, Travelling& travelling) {
            const extents& e = q.view.shape();
            result<A> made({e.batch, e.seq, e.heads, keys.v.shape().dim}, local.how.memory);
            partial<A> seen(made.out.shape(), local.how.memory);
            local.fold(q, std::span(&keys, 1), seen, travelling);
            seen.finish(made.out, made.lse);
            return made;
        }

        C comm_;
    };

    template <communicator C>
    [[nodiscard]] bound<C> on(C& comm) const {
        return bound<C>(comm);
    }
    void check(int) const {}
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const { return plan::tree_cost(p, rank); }
    [[nodiscard]] plan::cost predict_backward(const plan::problem& p, int rank) const {
        return plan::tree_backward_cost(p, rank);
    }
    [[nodiscard]] std::string name() const { return "tree"; }
};
static_assert(strategy<tree>);

} // namespace seqpar
