#pragma once

#include <seqpar/core/origin.hpp>
#include <seqpar/core/tensor.hpp>

#include <span>
#include <vector>

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

/// The rows of each block.
template <class T>
[[nodiscard]] std::vector<positions> rows_of(std::span<const key_block<T>> keys) {
    std::vector<positions> all;
    for (const key_block<T>& b : keys) all.push_back(b.at.rows);
    return all;
}

} // namespace seqpar
