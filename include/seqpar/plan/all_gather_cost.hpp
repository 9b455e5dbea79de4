#pragma once

#include <seqpar/plan/cost.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace seqpar::plan {

/// All-gather: a rank sends its own block to each of m = P - 1 others: 2 n k m elements when even, in m rounds; streamed c
/// blocks of V a round, m + ceil(m / c) rounds. Memory: all of K (and V, unless streamed: then two rounds' worth and the
/// own block), the partial, the kernel's scratch.
[[nodiscard]] inline cost all_gather_cost(const problem& p, int rank, int stream) {
    const int size = p.size();
    const auto peer = [&](int distance) { return (rank - distance + 2 * size) % size; };
    cost c;
    std::size_t gathered = 0;
    const auto gather = [&](auto bytes_of) {
        for (int r = 0; r < size; ++r) gathered += bytes_of(r);
        for (int distance = 1; distance < size; ++distance) {
            c.bytes += bytes_of(rank);
            c.messages += bytes_of(rank) > 0;
            c.rounds += bytes_of(rank) + bytes_of(peer(distance)) > 0;
        }
    };
    if (stream == 0) {
        std::vector<positions> keys;
        for (int r = 0; r < size; ++r) keys.push_back(p.of(r).keys.rows);
        gather([&](int r) { return p.kv_bytes(r); });
        c.memory = gathered + p.partial_bytes(rank) + p.kernel(rank, keys);
        return c;
    }
    gather([&](int r) { return p.k_bytes(r); });
    std::size_t here = 0; // bytes of V in the round that is computed, beside the rank's own
    for (int first = 0; first < size; first = first == 0 ? 1 : first + stream) {
        const int next = first == 0 ? 1 : first + stream;
        std::vector<positions> keys;
        for (int distance = first; distance < std::min(next, size); ++distance)
            keys.push_back(p.of(peer(distance)).keys.rows);
        std::size_t arriving = 0;
        for (int distance = next; distance < std::min(next + stream, size); ++distance) {
            arriving += p.v_bytes(peer(distance));
            c.bytes += p.v_bytes(rank);
            c.messages += p.v_bytes(rank) > 0;
        }
        c.rounds += next < size && arriving + p.v_bytes(rank) > 0;
        c.memory = std::max(c.memory, here + arriving + p.kernel(rank, keys));
        here = arriving;
    }
    c.memory += gathered + p.v_bytes(rank) + p.partial_bytes(rank);
    return c;
}

} // namespace seqpar::plan
