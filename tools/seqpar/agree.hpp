#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/communicator.hpp>
#include <seqpar/core/error.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace seqpar::tool {

/// Throws the same refusal on every rank if any rank is in trouble. Collective. An empty text is no trouble.
template <communicator C>
void agree(C& comm, std::string_view trouble) {
    using note = std::array<char, 2048>;
    note mine{};
    std::copy_n(trouble.begin(), std::min(trouble.size(), mine.size() - 1), mine.begin());
    std::vector<note> all(static_cast<std::size_t>(comm.size()));
    collective::all_gather_doubling(comm, outgoing{reinterpret_cast<const std::byte*>(&mine), sizeof mine},
                                    reinterpret_cast<std::byte*>(all.data()));
    for (std::size_t r = 0; r < all.size(); ++r) {
        const std::string text = all[r].data();
        if (text.empty()) continue;
        const bool everyone =
            std::all_of(all.begin(), all.end(), [&](const note& other) { return text == other.data(); });
        throw refusal(everyone ? text : detail::concat("rank ", r, ": ", text));
    }
}

/// Returns when rank 0 has called it, too. Collective. Who waits leaves the processor to others, so that rank 0 can work on
/// something by itself with all cores.
template <communicator C>
void await_rank_0(C& comm) {
    std::byte done{1};
    if (comm.rank() == 0) {
        for (int r = 1; r < comm.size(); ++r) comm.exchange({&done, 1}, r, {}, r).wait();
        return;
    }
    auto news = comm.exchange({}, 0, {&done, 1}, 0);
    while (!news.test()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    news.wait();
}

} // namespace seqpar::tool
