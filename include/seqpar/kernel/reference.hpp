#pragma once

#include <seqpar/kernel/kernel.hpp>
#include <seqpar/kernel/row_by_row.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory_resource>
#include <numbers>
#include <span>
#include <string>
#include <vector>

namespace seqpar {

/// The definition of attention, written to be read:
///
///     x_ij = score(scale * q_i . k_j)          for the keys j that row i sees
///     out_i = sum_j z_ij exp(x_ij - max_i) v_j / sum_j exp(x_ij - max_i)          z: what dropout says, else 1
///
/// Any element type; O(rows * keys * head_dim) per head, one row of scores at a time.
struct reference {
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        using A = accumulator_t<T>;
        if (keys.empty()) return;
        const detail::row_by_row<A, T, S> rows(how, q, keys, s);
        detail::row_weights<A> w(rows.keys(), how.memory);
        const index_t dim_v = into.shape().dim;
        std::pmr::vector<A> acc(static_cast<std::size_t>(dim_v), A{}, how.memory);

        detail::for_each_row(q, [&](index_t b, index_t i, position at) {
            for (index_t h = 0; h < q.view.shape().heads; ++h) {
                rows.weigh(b, h, i, at, false, w);
                const A max = highest(w.x) * std::numbers::log2e_v<A>;
                A sum = 0;
                std::ranges::fill(acc, A{});
                for (std::size_t j = 0; j < w.x.size(); ++j) {
                    if (w.x[j] == -std::numeric_limits<A>::infinity()) continue; // not seen, or of no weight
                    const A p = std::exp2(w.x[j] * std::numbers::log2e_v<A> - max);
                    sum += p;
                    for (index_t d = 0; d < dim_v && w.z[j] != 0; ++d) // 0: dropped
                        acc[static_cast<std::size_t>(d)] += w.z[j] * p * rows.value(j, b, h, d);
                }
                into.fold(b, i, h, max, sum, acc.data());
                if (how.progress != nullptr) (*how.progress)();
            }
        });
    }

    /// See row_by_row::add_gradients.
    template <real_element T, differentiable_score S>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& of,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        using A = accumulator_t<T>;
        if (keys.empty()) return;
        const detail::row_by_row<A, T, S> rows(how, q, keys, s);
        detail::row_weights<A> w(rows.keys(), how.memory);
        detail::for_each_row(q, [&](index_t b, index_t i, position at) {
            for (index_t h = 0; h < q.view.shape().heads; ++h) {
                rows.add_gradients(of, b, h, i, at, dq, dkv, w);
                if (how.progress != nullptr) (*how.progress)();
            }
        });
    }

    /// Scratch of backward: where each key lies and one row of weights.
    template <real_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents&, const extents&, std::span<const positions> keys,
                                                       int) const {
        return detail::row_by_row<accumulator_t<T>, T, full>::bytes(keys, 1);
    }

    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                              int workers) const {
        return backward_workspace_bytes<T>(q, v, keys, workers) +
               static_cast<std::size_t>(v.dim) * sizeof(accumulator_t<T>);
    }

    [[nodiscard]] std::string name() const { return "reference"; }

    /// The largest element; NaN if there is one.
    template <class Range>
    [[nodiscard]] static auto highest(const Range& x) {
        typename Range::value_type top = -std::numeric_limits<typename Range::value_type>::infinity();
        for (const auto value : x)
            if (value > top || value != value) top = value;
        return top;
    }
};
static_assert(kernel<reference> && kernel<reference, double> && kernel<reference, bfloat16>);

} // namespace seqpar
