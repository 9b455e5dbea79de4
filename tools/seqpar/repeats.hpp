#pragma once

#include "calibration.hpp"

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/communicator.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace seqpar::tool {

/// Repeats of work(), which does `pieces` equal pieces of work and is called on all ranks at once: the time of the slowest
/// rank, for which a pass waits at each step. As many as a quarter of a second is enough for, waits between them included, 5 at
/// least and 25 at most. The first call is no repeat. The same on every rank. Collective.
template <communicator C, class Work>
[[nodiscard]] measurement repeats_of(C& comm, int pieces, const Work& work) {
    using clock = std::chrono::steady_clock;
    using seconds = std::chrono::duration<double>;
    constexpr double budget = 0.25;
    struct lap {
        double work = 0, since_begin = 0;
    };
    const auto ranks = static_cast<std::size_t>(comm.size());
    work();
    measurement all;
    std::vector<lap> laps(ranks);
    const auto begin = clock::now();
    while (all.seconds.size() < 5 || (all.seconds.size() < 25 && laps.front().since_begin < budget)) {
        collective::barrier(comm);
        const auto start = clock::now();
        work();
        const auto end = clock::now();
        const lap mine{seconds(end - start).count(), seconds(end - begin).count()};
        collective::all_gather_doubling(comm, outgoing{reinterpret_cast<const std::byte*>(&mine), sizeof mine},
                                        reinterpret_cast<std::byte*>(laps.data()));
        const auto slowest =
            std::max_element(laps.begin(), laps.end(), [](const lap& a, const lap& b) { return a.work < b.work; });
        all.seconds.push_back(slowest->work / pieces);
    }
    return all;
}

} // namespace seqpar::tool
