#pragma once

#include "strategy_name.hpp"

#include <seqpar/layout/any_layout.hpp>
#include <seqpar/planning/workload.hpp>

#include <optional>
#include <string>
#include <vector>

namespace seqpar::tool {

/// An attention on a machine that is not here.
struct planning_request {
    workload work;
    bool causal = false;
    std::optional<std::string> window; ///< as it was written; work.score has both
    int ranks = 1;
    std::string machine;             ///< as --machine names it: not looked for yet
    std::optional<std::string> json; ///< a file
};

/// The command `plan --tokens N --heads H --ranks P --machine M`.
struct plan_command {
    planning_request of;
    int top = 10;                          ///< rows of the table
    std::vector<strategy_name> strategies; ///< to be ranked; none: all that there are
    std::optional<any_layout> layout;      ///< none: all that make a difference
};

/// The command `simulate --strategy S --tokens N --heads H --ranks P --machine M`.
struct simulate_command {
    planning_request of; ///< of.work.keep is --save
    std::vector<strategy_name> strategies;
    any_layout layout;
    std::optional<std::string> trace; ///< a file
};

} // namespace seqpar::tool
