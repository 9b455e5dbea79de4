#pragma once

#include <seqpar/core/origin.hpp>
#include <seqpar/core/tensor.hpp>

namespace seqpar {

/// A view that knows where it came from. Refers to its origin, which must outlive it.
template <class T>
struct block {
    tensor_view<T> view; // [batch, rows, heads, dim]
    const origin& at;
};

/// Keys and the values that belong to them: one origin for both.
template <class T>
struct key_block {
    tensor_view<const T> k; // [batch, rows, kv_heads, head_dim]
    tensor_view<const T> v; // [batch, rows, kv_heads, head_dim of v]
    const origin& at;
};

} // namespace seqpar
