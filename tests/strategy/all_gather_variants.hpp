/// @file
/// Every way to gather.
#pragma once

#include <seqpar/strategy/all_gather.hpp>

#include <vector>

namespace seqpar::testing {

[[nodiscard]] inline std::vector<all_gather> all_gathers() {
    std::vector<all_gather> all;
    for (const exchange_pattern pattern :
         {exchange_pattern::direct, exchange_pattern::ring, exchange_pattern::doubling})
        for (const int stream : {0, 1, 2, 5}) all.push_back({stream, pattern});
    return all;
}

} // namespace seqpar::testing
