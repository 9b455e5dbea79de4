/// @file
/// Whether two results have the same bits.
#pragma once

#include <seqpar/core/tensor.hpp>

#include <cstddef>
#include <cstring>

namespace seqpar::testing {

template <class T>
[[nodiscard]] bool same_bits(const tensor<T>& a, const tensor<T>& b) {
    return a.shape() == b.shape() &&
           std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.shape().count()) * sizeof(T)) == 0;
}

/// Of one row and head of the first batch entry.
template <class T>
[[nodiscard]] bool same_bits(const tensor<T>& a, const tensor<T>& b, index_t i, index_t h) {
    const std::size_t bytes = static_cast<std::size_t>(a.shape().dim) * sizeof(T);
    return std::memcmp(a.view().at(0, i, h), b.view().at(0, i, h), bytes) == 0;
}

/// Of a whole_run: out, lse and all gradients.
template <class Result>
[[nodiscard]] bool same_bits(const Result& a, const Result& b) requires requires {
    a.dq;
}
{
    return same_bits(a.out, b.out) && same_bits(a.lse, b.lse) && same_bits(a.dq, b.dq) && same_bits(a.dk, b.dk) &&
           same_bits(a.dv, b.dv) && a.dsinks == b.dsinks && a.dslopes == b.dslopes;
}

} // namespace seqpar::testing
