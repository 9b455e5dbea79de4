#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/native.hpp>

#include <bit>
#include <concepts>

namespace seqpar::collective {

/// Recursive doubling: gives every rank the fold of what all ranks have, the same bits on each. Collective.
///
/// mine        what this rank has, then the fold; the same number of bytes on every rank. Null data with bytes is a ghost.
/// theirs      room for what another rank has.
/// fold        fold(mine_first) folds `theirs` into `mine`, as (mine, theirs) if mine_first, else as (theirs, mine). Must be
///             associative, up to rounding; need not be commutative.
/// Cost per rank: log2 P messages of mine.bytes, and as many rounds. If P is no power of two, the ranks from
///             2^floor(log2 P) on are each folded into a partner before and told the fold after: floor(log2 P), one message
///             and two rounds more for a partner, and 1 message in 2 rounds for them.
/// Source: Thakur, Rabenseifner and Gropp 2005.
template <communicator C, std::invocable<bool> Fold>
void all_reduce_doubling(C& c, incoming mine, incoming theirs, const Fold& fold) {
    [[maybe_unused]] const auto named = detail::announce(c, "all_reduce");
    const int rank = c.rank(), size = c.size();
    const int doubled = static_cast<int>(std::bit_floor(static_cast<unsigned>(size)));
    const outgoing leaving{mine.data, mine.bytes};
    if (rank >= doubled) {
        c.exchange(leaving, rank - doubled, incoming{}, rank - doubled).wait();
        c.exchange(outgoing{}, rank - doubled, mine, rank - doubled).wait();
        return;
    }
    const bool has_partner = rank + doubled < size;
    if (has_partner) {
        c.exchange(outgoing{}, rank + doubled, theirs, rank + doubled).wait();
        fold(true);
    }
    for (int distance = 1; distance < doubled; distance *= 2) {
        const int peer = rank ^ distance;
        c.exchange(leaving, peer, theirs, peer).wait();
        fold(rank < peer); // the lower rank's first on both sides, so that both get the same bits
    }
    if (has_partner) c.exchange(leaving, rank + doubled, incoming{}, rank + doubled).wait();
}

} // namespace seqpar::collective
