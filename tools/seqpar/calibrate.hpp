#pragma once

#include "settings.hpp"

namespace seqpar::tool {

/// The command `calibrate`: measures this machine with the ranks of a settled world, prints what was measured, and writes the
/// description. Collective over the processes. Returns the exit status. calibrate_*.cpp compile it.
/// @throws refusal if the file cannot be written, or the ranks are on more than one machine
template <class World>
[[nodiscard]] int calibrate(World& world, const calibrate_command& c);

} // namespace seqpar::tool
