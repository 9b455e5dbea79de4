#pragma once

#include <seqpar/plan/machine.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace seqpar::tool {

/// Whether a name is that of a description's file.
[[nodiscard]] inline bool is_machine_file(std::string_view name) { return name.ends_with(".json"); }

/// The machine that --machine names: one that is shipped, or the path of a description, which ends in .json.
/// @throws refusal if it is neither, or as read_machine
[[nodiscard]] plan::machine machine_named(const std::string& name);

/// What `machines` prints: a line for each that is shipped, or the description of one, which has been checked.
/// @throws refusal as machine_named
[[nodiscard]] std::string describe_machines(const std::optional<std::string>& name);

} // namespace seqpar::tool
