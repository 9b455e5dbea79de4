#pragma once

#include <cstdint>
#include <string>

namespace seqpar::tool {

/// Size of a regular file that can be read. @throws refusal, with the path and the reason, if there is none
[[nodiscard]] std::uintmax_t size_of_readable_file(const std::string& path);

} // namespace seqpar::tool
