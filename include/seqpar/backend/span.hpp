#pragma once

#include <seqpar/backend/backend.hpp>
#include <seqpar/core/tensor.hpp>

namespace seqpar {

/// Raw memory: users give tensor_view (a pointer, extents, strides) or tensor, results are seqpar::tensor.
/// order is that of the outputs; inputs carry their own strides, so tensor_view(pointer, extents, format::bhsd) is one in BHSD.
template <element T>
struct span_backend {
    using value_type = T;

    format order = format::bshd;

    [[nodiscard]] tensor_view<const T> view(const tensor_view<const T>& x) const noexcept { return x; }
    [[nodiscard]] tensor_view<const T> view(const tensor_view<T>& x) const noexcept { return x; }
    [[nodiscard]] tensor_view<const T> view(const tensor<T>& x) const noexcept { return x.view(); }
    [[nodiscard]] tensor_view<T> view(tensor<T>& x) const noexcept { return x.view(); }
    [[nodiscard]] tensor_view<accumulator_t<T>> view_lse(tensor<accumulator_t<T>>& x) const noexcept {
        return x.view();
    }
    [[nodiscard]] tensor_view<const accumulator_t<T>> view_lse(const tensor<accumulator_t<T>>& x) const noexcept {
        return x.view();
    }

    [[nodiscard]] tensor<T> make(const extents& shape) const { return tensor<T>(shape, order); }
    [[nodiscard]] tensor<accumulator_t<T>> make_lse(const extents& shape) const {
        return tensor<accumulator_t<T>>(shape, format::bhsd);
    }
};
static_assert(tensor_backend<span_backend<float>> && tensor_backend<span_backend<bfloat16>>);

} // namespace seqpar
