#pragma once

#include <seqpar/plan/machine.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace seqpar::tool {

/// Where the numbers of a description come from, a line each. plan::machine has no place for them; a file must have them.
struct machine_sources {
    std::vector<std::string> rank, node, ports, network; ///< ports, network: not of shape none
};

/// The machine that a JSON text describes, as docs/machines.md says. `from` names the text in refusals.
/// Numbers have units of people (us, GB/s, TFLOP/s, GiB) there and SI units here: 1.3 us is the double nearest to 1.3e-6.
/// @throws refusal if it is no JSON, lacks a field or a source, or has one that is unknown, of a wrong type or out of range
[[nodiscard]] plan::machine read_machine(std::string_view json, const std::string& from);

/// The JSON text of a machine. Numbers of up to 15 digits are read again as they were.
[[nodiscard]] std::string machine_json(const plan::machine& m, const machine_sources& sources);

} // namespace seqpar::tool
