/// @file
/// Random input for tests: normal, seeded, different in every element.
#pragma once

#include <seqpar/core/tensor.hpp>

#include <cstdint>
#include <random>

namespace seqpar::testing {

/// A tensor of normal random elements.
template <element T>
[[nodiscard]] tensor<T> normal(const extents& shape, std::uint64_t seed, format order = format::bshd) {
    tensor<T> x(shape, order);
    std::mt19937_64 bits(seed);
    std::normal_distribution<float> distribution;
    for (index_t i = 0; i < shape.count(); ++i) x.data()[i] = static_cast<T>(distribution(bits));
    return x;
}

} // namespace seqpar::testing
