#pragma once

#include <string>

namespace seqpar::tool {

/// What the system calls this machine's processor, or "unknown".
[[nodiscard]] std::string processor_name();

} // namespace seqpar::tool
