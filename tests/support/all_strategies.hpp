/// @file
/// Every strategy that there is, and one attention over a whole sequence by any of them on thread ranks.
#pragma once

#include "random.hpp"

#include <seqpar/attention.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/any_strategy.hpp>
#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <functional>
#include <type_traits>
#include <vector>

namespace seqpar::testing {

/// Those that run on so many ranks, nestings included.
template <communicator C, class Kernel = any_kernel>
[[nodiscard]] std::vector<any_strategy<C, Kernel>> all_strategies(int ranks) {
    using any = any_strategy<C, Kernel>;
    std::vector<any> bare{ring{},
                          ring{ring_route::bidirectional(), ring_passing::keys},
                          ring{ring_route::one_way(), ring_passing::queries},
                          ring{ring_route::one_way(), ring_passing::automatic},
                          all_gather{},
                          all_gather{1},
                          all_gather{2},
                          tree{},
                          grid{}};
    std::vector<any> all;
    if (ranks == 1) all.push_back(serial{});
    for (const any& inner : bare) {
        all.push_back(inner);
        for (int degree = 2; degree < ranks; ++degree)
            if (ranks % degree == 0) all.push_back(ulysses<any>{degree, inner});
    }
    for (int w = 2; w < ranks; ++w)
        if (ranks % w == 0) {
            all.push_back(ring{ring_route::double_ring(w), ring_passing::keys});
            all.push_back(grid{w, ranks / w});
        }
    all.push_back(ulysses<>{});
    return all;
}

/// Normal numbers of one shape.
template <real_element T>
struct whole_input {
    tensor<T> q, k, v, dout;

    explicit whole_input(const attention_shape& s)
        : q(normal<T>({s.batch, s.queries, s.heads, s.dim}, 1)), k(normal<T>({s.batch, s.keys, s.kv_heads, s.dim}, 2)),
          v(normal<T>({s.batch, s.keys, s.kv_heads, s.dim_v}, 3)),
          dout(normal<T>({s.batch, s.queries, s.heads, s.dim_v}, 4)) {}
};

/// One attention over a whole sequence.
template <real_element T, class Kernel = any_kernel>
struct whole_run {
    any_strategy<thread_communicator, Kernel> strategy;
    int ranks;
    any_score score;
    any_layout layout = contiguous{};
    Kernel kernel = std::conditional_t<std::is_same_v<Kernel, any_kernel>, flash, Kernel>{};
    options how = {};
    int threads_per_rank = 1;

    struct forward_result {
        tensor<T> out;
        tensor<accumulator_t<T>> lse;
    };
    struct backward_result {
        tensor<T> out, dq, dk, dv;
        tensor<accumulator_t<T>> lse;
        std::vector<accumulator_t<T>> dsinks, dslopes;
    };

    [[nodiscard]] std::string name() const {
        return strategy.name() + " on " + std::to_string(ranks) + ", " + layout.name() + ", " + score.name();
    }

    [[nodiscard]] forward_result forward(const tensor<T>& q, const tensor<T>& k, const tensor<T>& v) const {
        const extents& e = q.shape();
        forward_result whole{tensor<T>({e.batch, e.seq, e.heads, v.shape().dim}),
                             tensor<accumulator_t<T>>({e.batch, e.seq, e.heads, 1})};
        on_ranks(
            [&](auto& attend, const positions& rows, const positions& keys) {
                const auto r = attend.forward(part(q, rows), part(k, keys), part(v, keys));
                put_rows(r.out.view(), rows, whole.out.view());
                if (how.lse) put_rows(r.lse.view(), rows, whole.lse.view());
            },
            e.seq, k.shape().seq);
        return whole;
    }

    [[nodiscard]] backward_result backward(const tensor<T>& q, const tensor<T>& k, const tensor<T>& v,
                                           const tensor<T>& dout) const {
        backward_result whole{tensor<T>(dout.shape()),
                              tensor<T>(q.shape()),
                              tensor<T>(k.shape()),
                              tensor<T>(v.shape()),
                              tensor<accumulator_t<T>>({q.shape().batch, q.shape().seq, q.shape().heads, 1}),
                              {},
                              {}};
        on_ranks(
            [&](auto& attend, const positions& rows, const positions& keys) {
                const tensor<T> my_q = part(q, rows), my_k = part(k, keys), my_v = part(v, keys);
                const auto r = attend.forward(my_q, my_k, my_v);
                const auto g = attend.backward(part(dout, rows), r);
                put_rows(r.out.view(), rows, whole.out.view());
                put_rows(r.lse.view(), rows, whole.lse.view());
                put_rows(g.dq.view(), rows, whole.dq.view());
                put_rows(g.dk.view(), keys, whole.dk.view());
                put_rows(g.dv.view(), keys, whole.dv.view());
                if (attend.comm().rank() == 0) whole.dsinks = g.dsinks, whole.dslopes = g.dslopes;
            },
            q.shape().seq, k.shape().seq);
        return whole;
    }

    [[nodiscard]] backward_result backward(const whole_input<T>& x) const { return backward(x.q, x.k, x.v, x.dout); }

    [[nodiscard]] static tensor<T> part(const tensor<T>& whole, const positions& at) {
        extents e = whole.shape();
        e.seq = at.size();
        tensor<T> rows(e);
        take_rows(whole.view(), at, rows.view());
        return rows;
    }

private:
    template <class F>
    void on_ranks(const F& f, index_t queries, index_t keys) const {
        threads::run(ranks, [&](thread_communicator world) {
            attention attend{world,  strategy,          layout, score,
                             kernel, span_backend<T>{}, how,    thread_pool(threads_per_rank)};
            f(attend, layout.positions(world.rank(), ranks, queries), layout.positions(world.rank(), ranks, keys));
        });
    }
};

/// A copy of a tensor.
template <real_element T>
[[nodiscard]] tensor<T> copy_of(const tensor<T>& x) {
    tensor<T> y(x.shape());
    copy(x.view(), y.view());
    return y;
}

} // namespace seqpar::testing
