#pragma once

#include <cstddef>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace seqpar::flash_detail {

/// Bytes of a core's own caches, as the system knows them; 32 KiB and 1 MiB where it does not. What is reused soon is cut so
/// that it stays there. They decide how work is grouped, never the order of a sum.
struct core_caches {
    std::size_t first = std::size_t{1} << 15, second = std::size_t{1} << 20;
};
[[nodiscard]] inline const core_caches& caches() noexcept {
    static const core_caches known = [] {
        core_caches c;
#if defined(_SC_LEVEL1_DCACHE_SIZE) && defined(_SC_LEVEL2_CACHE_SIZE)
        const long first = sysconf(_SC_LEVEL1_DCACHE_SIZE), second = sysconf(_SC_LEVEL2_CACHE_SIZE);
        if (first >= (1 << 13)) c.first = static_cast<std::size_t>(first);
        if (second >= (1 << 17)) c.second = static_cast<std::size_t>(second);
#endif
        return c;
    }();
    return known;
}

} // namespace seqpar::flash_detail
