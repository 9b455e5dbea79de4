/// @file
/// Whether two lists of runs are the same positions in the same order, however they are cut into runs.
#pragma once

#include <seqpar/core/origin.hpp>

namespace seqpar::testing {

[[nodiscard]] inline bool same_rows(const positions& a, const positions& b) {
    if (a.size() != b.size()) return false;
    for (index_t i = 0; i < a.size(); ++i)
        if (a[i] != b[i]) return false;
    return true;
}

} // namespace seqpar::testing
