#pragma once

#include <seqpar/comm/collectives/all_to_all.hpp>
#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/native.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

namespace seqpar::collective {

/// Gathers blocks of any sizes in the fewest rounds. Collective.
///
/// sizes       bytes of each rank's block, by rank, the same on all ranks; may be zero.
/// everyone    the blocks side by side, this rank's own first, then those of the ranks after it: block i is that of rank
///             (rank + i) mod P. The own one is there already. Null: ghosts.
/// Cost per rank: (P-1) blocks, in ceil(log2 P) messages and rounds at most, for any P.
/// Source: Bruck et al. 1997.
template <communicator C>
void all_gather_doubling(C& c, std::span<const std::size_t> sizes, std::byte* everyone) {
    detail::check_parts("all_gather_doubling", "sizes", sizes.size(), c.size());
    [[maybe_unused]] const auto named = detail::announce(c, "all_gather_doubling");
    const int rank = c.rank(), size = c.size();
    const auto bytes = [&](int first, int blocks) { // of the blocks of ranks first, first + 1, ...
        std::size_t sum = 0;
        for (int i = 0; i < blocks; ++i) sum += sizes[static_cast<std::size_t>((first + i) % size)];
        return sum;
    };
    // Every rank sends a prefix of what it holds, whatever P is.
    for (int held = 1; held < size; held *= 2) {
        const int moved = std::min(held, size - held), to = (rank - held + size) % size, from = (rank + held) % size;
        std::byte* const end = everyone == nullptr ? nullptr : everyone + bytes(rank, held);
        // blocks [0, held) -> [0, held + moved)
        c.exchange({everyone, bytes(rank, moved)}, to, {end, bytes(from, moved)}, from).wait();
    }
}

/// Gathers blocks of one size: rank r's `mine` becomes block r of `everyone` on every rank. Collective. Meant for small
/// messages: half of the blocks travel in the last round, and all are moved once more in memory.
///
/// mine        the same number of bytes on every rank; may lie anywhere in `everyone`.
/// everyone    P * mine.bytes bytes.
/// Cost per rank: (P-1) * mine.bytes, in ceil(log2 P) messages and rounds, for any P.
template <communicator C>
void all_gather_doubling(C& c, outgoing mine, std::byte* everyone) {
    const auto size = static_cast<std::size_t>(c.size()), rank = static_cast<std::size_t>(c.rank());
    if (mine.bytes == 0) return;
    std::memmove(everyone, mine.data, mine.bytes);
    const std::vector<std::size_t> sizes(size, mine.bytes);
    all_gather_doubling(c, std::span<const std::size_t>(sizes), everyone);
    // block i: of rank + i -> of rank i
    std::rotate(everyone, everyone + (size - rank) % size * mine.bytes, everyone + size * mine.bytes);
}

} // namespace seqpar::collective
