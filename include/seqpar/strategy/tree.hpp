#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/plan/tree_cost.hpp>
#include <seqpar/strategy/merge_results.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/strategy.hpp>

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
/// Results are merged in the order of ranks, whoever holds the row and whichever came first.
///
/// Every rank with the same S rows of Q (decoding; the placements say so): an all-reduce by recursive doubling, after which
/// every rank has the same bits. S (h + H) accumulators a round, in log2 P rounds if P is a power of two, else at most
/// floor(log2 P) + 1 messages and floor(log2 P) + 2 rounds.
struct tree {
    template <communicator C>
    class bound {
    public:
        explicit bound(C comm) : comm_(std::move(comm)) {}

        template <element T>
        struct saved {}; // nothing is kept

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x, saved<T>* = nullptr) {
            const key_block<T> own{x.k, x.v, where[static_cast<std::size_t>(comm_.rank())].keys};
            if (plan::same_queries(where))
                all_reduce(local, where, x, own);
            else
                reduce_scatter(local, where, x, own);
        }

    private:
        template <element A>
        using result = softmax_result<A>;

        /// Every rank holds its own rows of Q, and of the result.
        template <element T, class Local, element A = accumulator_t<T>>
        void reduce_scatter(const Local& local, std::span<const placement> where, const operands<T>& x,
                            const key_block<T>& own) {
            const auto memory = local.how.memory;
            const int rank = comm_.rank(), size = comm_.size();
            const std::size_t me = static_cast<std::size_t>(rank);

            std::vector<parcel> held(where.size()); // Q of each rank, until it is served
            std::vector<tensor_view<T>> q(where.size());
            std::vector<incoming> everyone;
            for (std::size_t r = 0; r < where.size(); ++r) {
                const origin& at = where[r].queries;
                q[r] = {nullptr, {x.q.shape().batch, at.rows.size(), at.heads.count, x.q.shape().dim}};
                held[r] = parcel::room_for(memory, q[r]);
                everyone.push_back(held[r].in());
            }
            copy(x.q, q[me]);
            collective::all_gather(comm_, held[me].out(), std::span<const incoming>(everyone));

            std::vector<result<A>> results(where.size()); // for the rows of this rank, by the rank whose keys it is of
            result<A> leaving;
            request_t<C> travelling;
            for (int distance = 1; distance <= size; ++distance) { // itself last
                const int to = (rank + distance) % size, from = (rank - distance + size) % size;
                const std::size_t peer = static_cast<std::size_t>(to);
                result<A> made = softmax_over(own, local, block<const T>{q[peer], where[peer].queries}, travelling);
                held[peer] = {};
                travelling.wait();
                leaving = {};
                if (to == rank) {
                    results[me] = std::move(made);
                    break;
                }
                leaving = std::move(made);
                result<A>& arriving = results[static_cast<std::size_t>(from)];
                arriving = result<A>(x.out.shape(), memory);
                travelling = comm_.exchange(leaving.message.out(), to, arriving.message.in(), from);
            }

            partial<A> seen(x.out.shape(), memory);
            for (const result<A>& r : results) seen.merge(r.out, r.lse);
            local.template finish<T>(seen, where[me].queries, x);
        }

        /// Every rank holds the same rows of Q, and gets the same bits of the result.
        template <element T, class Local, element A = accumulator_t<T>>
        void all_reduce(const Local& local, std::span<const placement> where, const operands<T>& x,
                        const key_block<T>& own) {
            const auto memory = local.how.memory;
            nothing travelling;
            result<A> mine = softmax_over(own, local, block<const T>{x.q, where.front().queries}, travelling);
            all_reduce_results(comm_, mine, memory);
            partial<A> whole(x.out.shape(), memory);
            whole.merge(mine.out, mine.lse);
            local.template finish<T>(whole, where.front().queries, x);
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
    [[nodiscard]] std::string name() const { return "tree"; }
};
static_assert(strategy<tree>);

} // namespace seqpar
