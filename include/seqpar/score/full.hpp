#pragma once

#include <seqpar/score/score.hpp>

namespace seqpar {

/// Every query sees every key.
struct full {
    [[nodiscard]] coverage cover(lengths, position_range, position_range) const noexcept { return coverage::full; }
    [[nodiscard]] interval visible(lengths, position, const run& keys) const noexcept { return {0, keys.count}; }
    [[nodiscard]] std::string name() const { return "full"; }
};
static_assert(score<full>);

} // namespace seqpar
