#pragma once

#include <cstddef>

namespace seqpar::tool {

/// Bytes of memory that this machine has, or the limit of this container where that is less.
[[nodiscard]] std::size_t memory_here();

} // namespace seqpar::tool
