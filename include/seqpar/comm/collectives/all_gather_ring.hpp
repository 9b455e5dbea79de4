#pragma once

#include <seqpar/comm/collectives/all_to_all.hpp>

namespace seqpar::collective {

/// Brings every rank's block to every rank by passing blocks on, to the next rank and from the one before. Collective.
///
/// everyone    one entry per rank: where the block of rank r goes; sizes may differ and may be zero, and are the same on
///             all ranks. everyone[rank] holds this rank's own block already.
/// Cost per rank: all blocks but that of the next rank, in at most P-1 messages and P-1 rounds.
/// Throws refusal if there is not one entry per rank, communication_error if sizes differ.
template <communicator C>
void all_gather_ring(C& c, std::span<const incoming> everyone) {
    detail::check_parts("all_gather_ring", "blocks", everyone.size(), c.size());
    [[maybe_unused]] const auto named = detail::announce(c, "all_gather_ring");
    const int rank = c.rank(), size = c.size();
    const auto block_before = [&](int steps) {
        return everyone[static_cast<std::size_t>((rank - steps + size) % size)];
    };
    for (int step = 0; step + 1 < size; ++step) {
        const incoming passed = block_before(step);
        c.exchange({passed.data, passed.bytes}, (rank + 1) % size, block_before(step + 1), (rank - 1 + size) % size)
            .wait();
    }
}

} // namespace seqpar::collective
