#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/native.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace seqpar::collective {

/// Gathers blocks of one size in the fewest rounds: rank r's `mine` becomes block r of `everyone` on every rank. Collective.
/// Meant for small messages: half of the blocks travel in the last round, and all are moved once more in memory.
///
/// mine        the same number of bytes on every rank; may lie anywhere in `everyone`.
/// everyone    P * mine.bytes bytes.
/// Cost per rank: (P-1) * mine.bytes, in ceil(log2 P) messages and rounds, for any P.
/// Source: Bruck et al. 1997.
template <communicator C>
void all_gather_doubling(C& c, outgoing mine, std::byte* everyone) {
    [[maybe_unused]] const auto named = detail::announce(c, "all_gather_doubling");
    const std::size_t block = mine.bytes;
    if (block == 0) {
        return;
    }
    const int rank = c.rank();
    const int size = c.size();
    const auto at = [&](int blocks) { return everyone + static_cast<std::size_t>(blocks) * block; };
    const auto bytes = [&](int blocks) { return static_cast<std::size_t>(blocks) * block; };

    // Block i is, until the end, that of rank + i: every rank sends a prefix, whatever P is.
    std::memmove(everyone, mine.data, block);
    for (int held = 1; held < size; held *= 2) {
        const int moved = std::min(held, size - held);
        // blocks [0, held) -> [0, held + moved)
        c.exchange({everyone, bytes(moved)}, (rank - held + size) % size, {at(held), bytes(moved)},
                   (rank + held) % size)
            .wait();
    }
    std::rotate(everyone, at((size - rank) % size), at(size)); // block i: of rank + i -> of rank i
}

} // namespace seqpar::collective
