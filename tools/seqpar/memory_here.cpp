#include "memory_here.hpp"

#include <seqpar/core/error.hpp>

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace seqpar::tool {

std::size_t memory_here() {
    const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGE_SIZE);
    if (pages <= 0 || page <= 0) throw error("the system does not tell how much memory it has");
    std::size_t bytes = static_cast<std::size_t>(pages) * static_cast<std::size_t>(page);
    for (const char* limit : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
        if (std::size_t most = 0; std::ifstream(limit) >> most && most > 0) bytes = std::min(bytes, most);
    return bytes; // a file that is not there, or says "max", is no limit
}

} // namespace seqpar::tool
