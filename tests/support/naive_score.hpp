/// @file
/// What happens to a score, written from the definitions alone, with nothing of the library: what its scores are held to.
#pragma once

#include <seqpar/core/tensor.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

namespace seqpar::testing {

/// A score of one pair after its changes.
struct naive_pair {
    long double value = 0;  ///< -inf: the key is not seen
    long double slope = 1;  ///< derivative of value by scale q . k
    double error = 0;       ///< what a computation of value may be off by
    double slope_error = 0; ///< and of slope
};

/// x = scale q . k -> function -> cap tanh(x / cap) -> x - slope |distance| -> x + bias, then the mask; sinks; dropout.
struct naive_score {
    std::function<bool(index_t i, index_t j)> sees;
    std::function<long double(long double x)> function = {}, derivative = {};
    double cap = 0; ///< 0: none
    std::vector<double> slopes = {}, sinks = {};
    std::function<double(index_t i, index_t j)> distance = [](index_t i, index_t j) {
        return std::abs(static_cast<double>(i - j));
    };
    std::function<double(index_t b, index_t h, index_t i, index_t j)> bias = {};
    std::function<double(index_t b, index_t h, index_t i, index_t j)> z = {}; ///< factor of the weight

    /// x: scale q . k, off by `error`. Each stage rounds its result; a cap thrice, a distance and a bias twice, and the
    /// slope of the cap six times, beside what the error of x does to it.
    [[nodiscard]] naive_pair change(index_t b, index_t h, index_t i, index_t j, long double x, double error,
                                    double u) const {
        const auto size = [](long double y) { return static_cast<double>(std::abs(y)); };
        naive_pair p{x, 1, error, 0};
        if (!sees(i, j)) return {-std::numeric_limits<long double>::infinity(), 0, 0, 0};
        if (function) {
            p.slope = derivative ? derivative(x) : 0;
            p.value = function(x);
            p.error = size(p.slope) * error + u * size(p.value);
        }
        if (cap != 0) {
            const long double t = std::tanh(p.value / cap), bend = 1 - t * t;
            p.slope_error = size(p.slope) * (6 * u + 2 * size(bend) * p.error / cap);
            p.value = cap * t;
            p.slope *= bend;
            p.error = size(bend) * p.error + 3 * u * size(p.value);
        }
        if (!slopes.empty()) {
            const long double fall = static_cast<long double>(slopes[static_cast<std::size_t>(h)]) * distance(i, j);
            p.value -= fall;
            p.error += 2 * u * (size(p.value) + size(fall));
        }
        if (bias) {
            const long double add = bias(b, h, i, j);
            p.value += add;
            p.error += 2 * u * (size(p.value) + size(add));
            if (std::isinf(p.value)) return {-std::numeric_limits<long double>::infinity(), 0, 0, 0};
        }
        return p;
    }
    [[nodiscard]] double factor(index_t b, index_t h, index_t i, index_t j) const { return z ? z(b, h, i, j) : 1; }
    [[nodiscard]] long double sink(index_t h) const {
        return sinks.empty() ? -std::numeric_limits<long double>::infinity() : sinks[static_cast<std::size_t>(h)];
    }
};

} // namespace seqpar::testing
