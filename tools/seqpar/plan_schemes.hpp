#pragma once

#include "planning_commands.hpp"

#include <string>

namespace seqpar::tool {

/// The command `plan`: prices and ranks all schemes, writes --json, and returns what to print.
/// @throws refusal if the machine is unknown or has not as many ranks, nothing fits into its memory, or the file cannot be written
[[nodiscard]] std::string plan_schemes(const plan_command& c);

} // namespace seqpar::tool
