#pragma once

#include <seqpar/core/tensor.hpp>

#include <concepts>
#include <utility>

namespace seqpar {

/// How the user's tensors become views, and how results are made.
///
/// For a model B with a value b, B::value_type = T, A = accumulator_t<T>:
///   1. b.view(x) is a tensor_view<const T> [batch, seq, heads, head_dim] of a user's tensor x, without copying where
///      strides allow; it throws `refusal` if x has another rank. x outlives the view.
///   2. b.make(extents) makes an output tensor, b.make_lse(extents) one for lse [batch, heads, seq] (extents.dim is 1),
///      elements zero; b.view(output) and b.view_lse(output) are views of them, writable unless the output is
///      const, dim of the latter being 1.
template <class B>
concept tensor_backend = std::copyable<B> && element<typename B::value_type> && requires(const B& b, extents e) {
    { b.view(std::declval<decltype(b.make(e))&>()) } -> std::convertible_to<tensor_view<const typename B::value_type>>;
    {
        b.view_lse(std::declval<decltype(b.make_lse(e))&>())
        } -> std::same_as<tensor_view<accumulator_t<typename B::value_type>>>;
};

} // namespace seqpar
