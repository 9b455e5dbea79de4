#pragma once

#include <cstddef>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace seqpar::flash_detail {

/// Bytes of a core's second-level cache, as the system knows it; 1 MiB where it does not. What is reused soon is cut so
/// that it stays there. It decides how work is grouped, never the order of a sum.
[[nodiscard]] inline std::size_t second_level_cache() noexcept {
    static const std::size_t bytes = [] {
        long known = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
        known = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
        return known >= (1 << 17) ? static_cast<std::size_t>(known) : std::size_t{1} << 20;
    }();
    return bytes;
}

} // namespace seqpar::flash_detail
