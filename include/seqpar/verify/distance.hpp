#pragma once

#include <cmath>
#include <limits>

namespace seqpar {

/// |value - truth|; 0 where both are not finite in the same way, infinite where only one is.
[[nodiscard]] inline double distance_from(double value, double truth) noexcept {
    if (!std::isfinite(truth)) {
        const bool same = std::isinf(truth) && std::isinf(value) ? value == truth : !std::isfinite(value);
        return same ? 0 : std::numeric_limits<double>::infinity();
    }
    return std::isfinite(value) ? std::abs(value - truth) : std::numeric_limits<double>::infinity();
}

/// An error in units of its bound; infinite where the bound says nothing.
[[nodiscard]] inline double ratio_of(double error, double bound) noexcept {
    if (error == 0) return 0;
    return std::isfinite(bound) && bound > 0 ? error / bound : std::numeric_limits<double>::infinity();
}

} // namespace seqpar
