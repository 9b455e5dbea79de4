#pragma once

#include <seqpar/comm/collectives/all_gather_doubling.hpp>
#include <seqpar/comm/communicator.hpp>

#include <cstddef>
#include <vector>

namespace seqpar {

/// Where a rank stands in the group that a split gives it.
struct group_place {
    int rank = 0;
    int size = 0;
};

/// For a model that has no split of its own to build on: tells all ranks each other's color and key, and returns this
/// rank's place among those of its color, ordered by key, then by rank. Collective.
///
/// Cost per rank: 8 * (P-1) bytes in ceil(log2 P) rounds, and O(P) time and memory.
template <communicator C>
[[nodiscard]] group_place split_place(C& c, int color, int key) {
    struct entry {
        int color, key;
    };
    const entry mine{color, key};
    std::vector<entry> entries(static_cast<std::size_t>(c.size()));
    collective::all_gather_doubling(c, {reinterpret_cast<const std::byte*>(&mine), sizeof mine},
                                    reinterpret_cast<std::byte*>(entries.data()));
    group_place place;
    for (int r = 0; r < c.size(); ++r) {
        const entry& other = entries[static_cast<std::size_t>(r)];
        if (other.color != color) continue;
        if (other.key < key || (other.key == key && r < c.rank())) ++place.rank;
        ++place.size;
    }
    return place;
}

} // namespace seqpar
