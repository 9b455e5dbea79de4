#pragma once

#include <seqpar/plan/cost.hpp>

#include <algorithm>
#include <cstddef>

namespace seqpar::plan {

/// Ring: in m = P - 1 rounds a rank passes on all blocks of K, V but that of the rank it sends to: 2 n k m elements when
/// even. Memory: two blocks of the largest rank, the partial, the kernel's scratch for the costliest block.
[[nodiscard]] inline cost ring_cost(const problem& p, int rank) {
    const int size = p.size();
    cost c;
    std::size_t largest = 0, scratch = 0;
    for (int r = 0; r < size; ++r) {
        largest = std::max(largest, p.kv_bytes(r));
        scratch = std::max(scratch, p.kernel(rank, {&p.of(r).keys.rows, 1}));
    }
    for (int step = 0; step + 1 < size; ++step) {
        const std::size_t sent = p.kv_bytes((rank - step + size) % size);
        const std::size_t received = p.kv_bytes((rank - step - 1 + size) % size);
        c.bytes += sent;
        c.messages += sent > 0;
        c.rounds += sent + received > 0;
    }
    c.memory = 2 * largest + p.partial_bytes(rank) + scratch;
    return c;
}

} // namespace seqpar::plan
