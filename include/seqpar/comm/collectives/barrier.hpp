#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/native.hpp>

#include <cstddef>

namespace seqpar::collective {

/// Returns on no rank before every rank has called it. Collective.
///
/// Cost per rank: ceil(log2 P) rounds of one message of one byte; one native call where the communicator has a barrier.
/// Source: dissemination, Hensgen, Finkel and Manber 1988.
template <communicator C>
void barrier(C& c) {
    [[maybe_unused]] const auto named = detail::announce(c, "barrier");
    if constexpr (native_barrier<C>) {
        c.barrier();
    } else {
        const int rank = c.rank();
        const int size = c.size();
        // After the round of a distance, this rank has heard, through others, of the 2 * distance - 1 ranks before it.
        for (int distance = 1; distance < size; distance *= 2) {
            const std::byte here{1};
            std::byte there{0};
            c.exchange({&here, 1}, (rank + distance) % size, {&there, 1}, (rank - distance + size) % size).wait();
        }
    }
}

} // namespace seqpar::collective
