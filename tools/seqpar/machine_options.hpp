#pragma once

#include "settings.hpp"

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace seqpar::tool {

/// What the command line says of `machines` and `calibrate`, as text.
struct machines_texts {
    std::optional<std::string> machine;
};
struct calibrate_texts {
    std::optional<std::string> out, ranks;
};

/// Add the commands to the program.
void add_machines(CLI::App& program, machines_texts& to);
void add_calibrate(CLI::App& program, calibrate_texts& to);
/// @throws refusal for what is out of range
[[nodiscard]] machines_command read(const machines_texts& from);
[[nodiscard]] calibrate_command read(const calibrate_texts& from);

} // namespace seqpar::tool
