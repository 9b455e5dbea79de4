#pragma once

#include <seqpar/plan/ring_cost.hpp>
#include <seqpar/strategy/ring/passing_keys.hpp>
#include <seqpar/strategy/ring/passing_queries.hpp>
#include <seqpar/strategy/ring/travel.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <span>
#include <string>
#include <utility>

namespace seqpar {

/// Blocks travel round the ranks, and each rank computes with the one that is there while the next arrives. Who gets which
/// block when is a plan::ring_schedule, from the route and from who sees whom; the loop over it is detail::travel.
/// (Liu, Zaharia and Abbeel 2023, Ring Attention, arXiv:2310.01889.)
///
/// K, V travel, or Q does, with a finished (out, lse) of its softmax that is merged on the way and comes home. Sums (dk, dv;
/// out, lse; dq) travel in the accumulation type, a step behind their block. A block travels no further than some rank needs it:
/// a causal one of contiguous rows to the last rank, one under a window W over ceil(W / n) hops.
///
/// When even and everyone sees everyone, a rank sends, n = N / P rows, m = P - 1, h = H * head_dim, k = kv_heads *
/// head_dim, (a) in the accumulation type:
///
///     keys     forward 2 n k m                      backward 2 n k m + 2 n k m (a)
///     queries  forward n h m + n m (h + H) (a)      backward 2 n h m + 2 n H m (a) + n h m (a)
///
/// forward keys in m rounds, ceil(m / 2) both ways at once; with sums two more, or one where a block makes only one hop.
/// Holds two blocks a stream, 4 n k of K, V.
struct ring {
    ring_route route = {};
    ring_passing passing = ring_passing::keys; ///< other than keys: on the one-way route

    template <communicator C>
    class bound {
    public:
        bound(C comm, const ring& how) : comm_(std::move(comm)), route_(how.route), passing_(how.passing) {}

        template <element T>
        struct saved {}; // the ring keeps nothing: blocks travel again

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x, saved<T>* = nullptr) {
            const auto go = [&](const plan::ring_schedule& schedule, auto cargo) {
                detail::travel(comm_, schedule, cargo);
                cargo.finish();
            };
            scheduled(local, where, x, plan::pass::forward, [&](const plan::ring_schedule& s, ring_passing what) {
                if (what == ring_passing::keys)
                    go(s, detail::forward_with_keys<T, Local>(local, where, x, comm_.rank()));
                else
                    go(s, detail::forward_with_queries<T, Local>(local, where, x, comm_.rank()));
            });
        }

        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>&) {
            const auto go = [&](const plan::ring_schedule& schedule, auto cargo) {
                detail::travel(comm_, schedule, cargo);
            };
            scheduled(local, where, x, plan::pass::backward, [&](const plan::ring_schedule& s, ring_passing what) {
                if (what == ring_passing::keys)
                    go(s, detail::backward_with_keys<T, Local>(local, where, x, g, comm_.rank()));
                else
                    go(s, detail::backward_with_queries<T, Local>(local, where, x, g, comm_.rank()));
            });
        }

    private:
        /// Calls run(schedule, keys or queries).
        template <element T, class Local, class Run>
        void scheduled(const Local& local, std::span<const placement> where, const operands<T>& x, plan::pass of,
                       const Run& run) const {
            const auto sees = [&](const origin& q, const origin& k) { return local.sees(q, k); };
            const auto unpriced = [](const extents&, const extents&, std::span<const positions>) {
                return std::size_t{0};
            };
            const plan::problem p{.batch = x.q.shape().batch,
                                  .dim = x.q.shape().dim,
                                  .dim_v = x.v.shape().dim,
                                  .group = local.how.group,
                                  .element_bytes = element_traits<T>::wire_bytes,
                                  .accumulator_bytes = element_traits<accumulator_t<T>>::wire_bytes,
                                  .where = where,
                                  .kernel_bytes = unpriced,
                                  .sees = sees};
            const ring_passing what = plan::ring_choice(p, route_, passing_, of);
            run(plan::ring_schedule(p, route_, what), what);
        }

        C comm_;
        ring_route route_;
        ring_passing passing_;
    };

    template <communicator C>
    [[nodiscard]] bound<C> on(C& comm) const {
        check(comm.size());
        return {comm, *this};
    }
    void check(int size) const {
        route.check(size);
        if (passing != ring_passing::keys && route != ring_route::one_way())
            throw refusal(name() + ": queries travel one way: allowed are ring:pass=q and ring:pass=auto, or ring:" +
                          route.name());
    }
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const {
        return plan::ring_cost(p, rank, route, passing, plan::pass::forward);
    }
    [[nodiscard]] plan::cost predict_backward(const plan::problem& p, int rank) const {
        return plan::ring_cost(p, rank, route, passing, plan::pass::backward);
    }
    /// "ring", "ring:bidirectional", "ring:double=4", "ring:pass=q", "ring:pass=auto"
    [[nodiscard]] std::string name() const {
        std::string text = "ring";
        if (route != ring_route::one_way()) text += ":" + route.name();
        if (passing != ring_passing::keys) text += passing == ring_passing::queries ? ":pass=q" : ":pass=auto";
        return text;
    }
};
static_assert(strategy<ring>);

} // namespace seqpar
