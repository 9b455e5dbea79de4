/// @file
/// What the tests of backward share: random input, a kernel's gradients of it, and the judge.
#pragma once

#include "kernel/attention_case.hpp"
#include "support/naive_gradient.hpp"

#include <seqpar/kernel/kernel.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace kernel_test {

/// Unfinished gradients of one attention.
template <class A>
struct gradients {
    tensor<A> dq, dk, dv;

    explicit gradients(const sizes& n) : dq(n.q()), dk(n.k()), dv(n.v()) {}
};

template <class A>
[[nodiscard]] bool same_bits(const gradients<A>& a, const gradients<A>& b) {
    const auto same = [](const tensor<A>& x, const tensor<A>& y) {
        return same_bits(tensor_view<const A>(x.view()), tensor_view<const A>(y.view()));
    };
    return same(a.dq, b.dq) && same(a.dk, b.dk) && same(a.dv, b.dv);
}

/// An attention with what flows into it: dout, and into lse, both random.
template <class T>
struct gradient_input : attention_input<T> {
    using A = accumulator_t<T>;

    input<T> dout;
    input<double> dlse;
    tensor<A> lse, delta; ///< the exact ones, rounded
    seqpar::testing::naive_gradients want;
    seqpar::testing::gradient_bounds bounds;

    gradient_input(const sizes& e, const context& how, const any_score& score, unsigned seed = 1,
                   memory_order order = memory_order::bshd, double spread = 1)
        : attention_input<T>(e, seed, order, spread), dout(e.out(), order, 5 * seed + 2),
          dlse({e.batch, e.rows, e.heads, 1}, order, 7 * seed + 3), lse({e.batch, e.rows, e.heads, 1}),
          delta({e.batch, e.rows, e.heads, 1}) {
        const run all{position{0}, 1, e.keys};
        seqpar::testing::gradient_rounding rounding;
        rounding.u = element_traits<A>::roundoff;
        rounding.tiny = static_cast<double>(std::numeric_limits<A>::min());
        rounding.rows_given = true;
        seqpar::testing::naive_gradient<T>(
            this->q.view(), this->k.view(), this->v.view(), dout.view(), dlse.view(), how.scale,
            [&](index_t i, index_t j) {
                const interval seen = score.visible(how.n, position{i}, all);
                return seen.first <= j && j < seen.last;
            },
            rounding, want, bounds);
        for (std::size_t i = 0; i < want.lse.size(); ++i) {
            lse.data()[i] = static_cast<A>(want.lse[i]);
            delta.data()[i] = static_cast<A>(want.delta[i]);
        }
    }

    [[nodiscard]] row_gradients<T> of_rows() const { return {dout.view(), lse.view(), delta.view()}; }
};

/// The scale and sizes of an attention as a context.
[[nodiscard]] inline context context_of(const sizes& n) {
    context c;
    c.scale = 1 / std::sqrt(static_cast<double>(n.dim));
    c.n = {n.rows, n.keys};
    c.group = n.heads / n.kv_heads;
    return c;
}

/// The gradients by one kernel, keys in one block.
template <class K, class T>
[[nodiscard]] gradients<accumulator_t<T>> differentiate(const K& kernel, const context& how,
                                                        const gradient_input<T>& in, const any_score& score) {
    using A = accumulator_t<T>;
    gradients<A> result(in.n);
    const origin rows = in.rows(), keys = in.keys();
    const key_block<T> block_of_keys{in.k.view(), in.v.view(), keys};
    const key_gradients<A> of_keys{result.dk.view(), result.dv.view()};
    kernel.backward(how, block<const T>{in.q.view(), rows}, in.of_rows(),
                    std::span<const key_block<T>>(&block_of_keys, 1), score, result.dq.view(),
                    std::span<const key_gradients<A>>(&of_keys, 1));
    return result;
}

/// Compares gradients with the naive ones, element by element.
struct gradient_judge {
    double worst = 0; ///< of what was judged: error / bound

    template <class A>
    [[nodiscard]] bool within(const char* what, const tensor<A>& got, const std::vector<long double>& want,
                              const std::vector<double>& bound, std::string& why) {
        for (std::size_t i = 0; i < want.size(); ++i) {
            const double error = static_cast<double>(std::abs(static_cast<long double>(got.data()[i]) - want[i]));
            if (error == 0) continue;
            if (error <= bound[i]) {
                worst = std::max(worst, error / bound[i]);
                continue;
            }
            why = detail::concat(what, '[', i, "] = ", static_cast<double>(got.data()[i]), " and not ",
                                 static_cast<double>(want[i]), ": off by ", error, ", allowed ", bound[i]);
            return false;
        }
        return true;
    }
    template <class A, class T>
    [[nodiscard]] bool accepts(const gradients<A>& got, const gradient_input<T>& in, std::string& why) {
        return within("dq", got.dq, in.want.dq, in.bounds.dq, why) &&
               within("dk", got.dk, in.want.dk, in.bounds.dk, why) &&
               within("dv", got.dv, in.want.dv, in.bounds.dv, why);
    }
};

} // namespace kernel_test
