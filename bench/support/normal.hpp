/// @file
/// Random input.
#pragma once

#include <seqpar/core/tensor.hpp>

#include <random>

namespace bench {

/// Normal random numbers of the deviation.
template <class T>
[[nodiscard]] seqpar::tensor<T> normal(const seqpar::extents& e, unsigned seed, float deviation = 1) {
    seqpar::tensor<T> x(e);
    std::mt19937 bits(seed);
    std::normal_distribution<float> distribution(0, deviation);
    for (seqpar::index_t i = 0; i < e.count(); ++i) x.data()[i] = static_cast<T>(distribution(bits));
    return x;
}

} // namespace bench
