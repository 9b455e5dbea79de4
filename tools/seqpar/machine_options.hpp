#pragma once

#include "settings.hpp"

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace seqpar::tool {

/// What the command line says of `machines`, as text.
struct machines_texts {
    std::optional<std::string> machine;
};

/// Adds the command to the program.
void add_machines(CLI::App& program, machines_texts& to);
[[nodiscard]] machines_command read(const machines_texts& from);

} // namespace seqpar::tool
