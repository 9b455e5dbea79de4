#pragma once

#include "planning_commands.hpp"
#include "settings.hpp"

#include <string>
#include <variant>

namespace seqpar::tool {

/// There is nothing to compute: a text to show, and the exit status.
struct nothing_to_do {
    std::string text;
    int status = 0;
};

using command = std::variant<nothing_to_do, embed_command, attention_command, machines_command, calibrate_command,
                             plan_command, simulate_command>;

/// What the command line asks for. @throws refusal if it is malformed
[[nodiscard]] command read_command_line(int argc, const char* const* argv, const std::string& program);

} // namespace seqpar::tool
