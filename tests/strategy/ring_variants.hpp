/// @file
/// Every ring that fits a number of ranks.
#pragma once

#include <seqpar/strategy/ring.hpp>

#include <vector>

namespace seqpar::testing {

[[nodiscard]] inline std::vector<ring> rings(int ranks) {
    std::vector<ring> all{ring{}, ring{ring_route::bidirectional()}, ring{.passing = ring_passing::queries},
                          ring{.passing = ring_passing::automatic}};
    for (int width = 1; width <= ranks; ++width)
        if (ranks % width == 0) all.push_back(ring{ring_route::double_ring(width)});
    return all;
}

} // namespace seqpar::testing
