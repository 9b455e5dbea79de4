#pragma once

#include <seqpar/plan/cost.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace seqpar::tool {

/// What a forward attention cost one rank, and what it was predicted to. Trivially copyable: it travels as it is.
struct account {
    double seconds = 0;
    plan::cost counted, predicted;
};

/// The accounts of all ranks, and what they say together.
struct accounts {
    std::vector<account> of_ranks;

    [[nodiscard]] double seconds() const {
        double longest = 0;
        for (const account& a : of_ranks) longest = std::max(longest, a.seconds);
        return longest;
    }

    /// Largest and sum over the ranks of one quantity, as counted or as predicted.
    struct summary {
        std::size_t largest = 0, total = 0;
    };
    [[nodiscard]] summary of(plan::cost account::*which, std::size_t plan::cost::*what) const {
        summary s;
        for (const account& a : of_ranks) {
            s.largest = std::max(s.largest, (a.*which).*what);
            s.total += (a.*which).*what;
        }
        return s;
    }
    /// Whether each rank counted what was predicted for it.
    [[nodiscard]] bool exact(std::size_t plan::cost::*what) const {
        return std::all_of(of_ranks.begin(), of_ranks.end(),
                           [&](const account& a) { return a.counted.*what == a.predicted.*what; });
    }

    /// Where bytes or messages are not the predicted ones, or memory is not within 1% and 64 KiB: one line each.
    [[nodiscard]] std::vector<std::string> faults() const;
};

} // namespace seqpar::tool
