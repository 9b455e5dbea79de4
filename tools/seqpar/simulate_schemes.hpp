#pragma once

#include "planning_commands.hpp"

#include <string>

namespace seqpar::tool {

/// The command `simulate`: runs each strategy on the simulated machine, writes --json and --trace, and returns what to print.
/// simulate_with_simgrid.cpp or simulate_without_simgrid.cpp has it, as the build finds.
/// @throws refusal if the machine is unknown or has not as many ranks, a strategy cannot run on them, a file cannot be written, or
///         SimGrid was not there when this was built
[[nodiscard]] std::string simulate_schemes(const simulate_command& c);

} // namespace seqpar::tool
