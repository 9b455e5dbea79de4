/// @file
/// The instruction sets that this processor has.
#pragma once

#include <seqpar/kernel/flash/instruction_set.hpp>

#include <vector>

namespace seqpar::testing {

[[nodiscard]] inline std::vector<instruction_set> targets() {
    std::vector<instruction_set> all;
    for (const instruction_set set : all_instruction_sets)
        if (set != instruction_set::automatic && is_supported(set)) all.push_back(set);
    return all;
}

} // namespace seqpar::testing
