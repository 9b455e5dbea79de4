#pragma once

#include <seqpar/core/element.hpp>
#include <seqpar/core/tensor.hpp>

#include <cassert>

namespace seqpar {

/// What softmax's derivative takes off each row: delta_i = sum_d dout_id out_id - dlse_i, in the accumulation type.
///
///   out, dout  [batch, rows, heads, head_dim of v], any strides
///   dlse       [batch, rows, heads, 1], the gradient that flows into lse; a default view (dim 0): there is none
///   delta      [batch, rows, heads, 1], written
///
/// O(rows * heads * head_dim). (FlashAttention-2, Dao 2023, arXiv:2307.08691, algorithm 2, line 4; for dlse:
/// dlse_i P_ij joins dS_ij = P_ij (dP_ij - delta_i).)
template <element T>
void row_delta(const tensor_view<const T>& out, const tensor_view<const T>& dout,
               const tensor_view<const accumulator_t<T>>& dlse, const tensor_view<accumulator_t<T>>& delta) {
    if constexpr (real_element<T>) {
        using A = accumulator_t<T>;
        using C = scalar_t<T>;
        assert(out.shape() == dout.shape());
        const extents& e = out.shape();
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                for (index_t h = 0; h < e.heads; ++h) {
                    const T* x = out.at(b, i, h);
                    const T* y = dout.at(b, i, h);
                    C sum = 0;
                    for (index_t d = 0; d < e.dim; ++d)
                        sum += static_cast<C>(x[d * out.step().dim]) * static_cast<C>(y[d * dout.step().dim]);
                    delta(b, i, h) = static_cast<A>(dlse.shape().dim == 0 ? sum : sum - static_cast<C>(dlse(b, i, h)));
                }
    }
}

} // namespace seqpar
