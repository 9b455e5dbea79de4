#pragma once

#include "planning_commands.hpp"

#include <seqpar/plan/machine.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace seqpar::tool {

/// What is planned or simulated, in two lines.
[[nodiscard]] std::string asked_text(const planning_request& of, const plan::machine& m);
/// The same as an object.
[[nodiscard]] nlohmann::ordered_json asked_json(const planning_request& of, const plan::machine& m);

/// The command that simulates a scheme of that request.
[[nodiscard]] std::string simulate_line(const planning_request& of, const std::string& strategy,
                                        const std::string& layout, bool keep);

} // namespace seqpar::tool
