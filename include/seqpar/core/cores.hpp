#pragma once

#include <seqpar/core/error.hpp>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <span>
#include <thread>
#if defined(__linux__)
#include <sched.h>
#endif

namespace seqpar {

/// Some of a machine's cores, by their numbers.
using core_set = std::bitset<1024>;

/// Those that the calling thread, and those that it starts, may use, at least one: on Linux what taskset, a container or a
/// launcher of ranks has left it, elsewhere all there are.
[[nodiscard]] inline core_set allowed_cores() noexcept {
    core_set cores;
#if defined(__linux__)
    cpu_set_t allowed; // of 1024: a machine with more refuses
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        for (std::size_t core = 0; core < cores.size(); ++core) cores[core] = CPU_ISSET(core, &allowed);
#endif
    if (cores.any()) return cores;
    const std::size_t all = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, cores.size());
    for (std::size_t core = 0; core < all; ++core) cores.set(core);
    return cores;
}

/// How many these are, at least 1.
[[nodiscard]] inline int cores_here() noexcept { return static_cast<int>(allowed_cores().count()); }

/// Threads for each of the ranks that share a machine, of which each may use these cores: as many as leave no core with two, at
/// least 1. The same for all. O(ranks).
[[nodiscard]] inline int threads_per_rank(std::span<const core_set> ranks) {
    if (ranks.empty()) throw refusal("threads for 0 ranks: there must be 1 or more");
    std::array<int, core_set{}.size()> users{};
    for (const core_set& own : ranks)
        for (std::size_t core = 0; core < own.size(); ++core) users[core] += own[core] ? 1 : 0;
    double least = core_set{}.size();
    for (const core_set& own : ranks) {
        double share = 0;
        for (std::size_t core = 0; core < own.size(); ++core)
            if (own[core]) share += 1.0 / users[core];
        least = std::min(least, share);
    }
    return std::max(1, static_cast<int>(least + 1e-6)); // three thirds are 1
}

/// The same for ranks that are threads of this process.
///
///     attention attend{world, ring{}, thread_pool(threads_per_rank(world.size()))};
[[nodiscard]] inline int threads_per_rank(int ranks_here) {
    if (ranks_here < 1) throw refusal(detail::concat("threads for ", ranks_here, " ranks: there must be 1 or more"));
    return std::max(1, cores_here() / ranks_here);
}

} // namespace seqpar
