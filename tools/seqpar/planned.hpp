#pragma once

#include "planning_commands.hpp"

#include <seqpar/plan/machine.hpp>
#include <seqpar/planning/planner.hpp>

#include <string>
#include <vector>

namespace seqpar::tool {

/// What `plan` found.
struct planned {
    planning_request asked;
    plan::machine machine;
    ranking found;
    std::vector<crossover> changes; ///< of the winner's family, with the number of tokens

    /// Tables of the first `top` schemes, of the best of each family, of the crossovers, and the command that checks it all.
    [[nodiscard]] std::string text(int top) const;
    /// All schemes.
    [[nodiscard]] std::string json() const;
    [[nodiscard]] std::string check() const; ///< the command that simulates the winner
};

} // namespace seqpar::tool
