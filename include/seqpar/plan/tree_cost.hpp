#pragma once

#include <seqpar/plan/cost.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace seqpar::plan {

/// Whether every rank holds the same queries.
[[nodiscard]] inline bool same_queries(std::span<const placement> where) {
    return std::all_of(where.begin(), where.end(), [&](const placement& p) { return p.queries == where[0].queries; });
}

/// How many ranks take part in recursive doubling: the largest power of two that is at most `size`.
[[nodiscard]] constexpr int doubled_ranks(int size) noexcept {
    int doubled = 1;
    while (doubled <= size / 2) doubled *= 2;
    return doubled;
}

/// Tree. A result is (out, lse) of a rank's rows in the accumulation type.
///
/// Each rank with queries of its own: a rank sends its Q to each of m = P - 1 others, and to each that one's result over its
/// own keys: n h m elements and n m (h + H) accumulators when even, in 2 m messages and rounds. Memory: the largest, over
/// the peers in order of distance and itself last, of: Q of the peers still to be served, the results that have arrived,
/// one that leaves and one that is made, its partial and the kernel's scratch.
///
/// The same queries on every rank: a result each way in each of the rounds of recursive doubling, and where P is no power of
/// two one to the rank's partner before, or from it after. Memory: two results and a partial, or one and the kernel's scratch.
[[nodiscard]] inline cost tree_cost(const problem& p, int rank) {
    const int size = p.size();
    const auto result_bytes = [&](int r) {
        return p.items(p.of(r).queries) * static_cast<std::size_t>(p.dim_v + 1) * p.accumulator_bytes;
    };
    const auto computing = [&](int r) { // the queries of rank r
        return result_bytes(r) + p.partial_bytes(r) + p.kernel(r, {&p.of(rank).keys.rows, 1});
    };
    cost c;
    if (same_queries(p.where)) {
        const int doubled = doubled_ranks(size);
        const std::size_t result = result_bytes(rank), outside = rank < size - doubled ? 1 : 0;
        c.memory = computing(rank);
        if (result == 0) return c;
        if (rank >= doubled) return {1, result, 2, c.memory};
        for (int distance = 1; distance < doubled; distance *= 2) ++c.messages;
        c.rounds = c.messages + 2 * outside;
        c.messages += outside;
        c.bytes = c.messages * result;
        if (size > 1) c.memory = std::max(c.memory, 2 * result + p.partial_bytes(rank));
        return c;
    }
    std::size_t queries = 0, arrived = 0, leaving = 0;
    for (int r = 0; r < size; ++r) queries += p.q_bytes(r);
    c.memory = queries;
    for (int distance = 1; distance <= size; ++distance) {
        const int to = (rank + distance) % size, from = (rank - distance + size) % size;
        c.memory = std::max(c.memory, queries + arrived + leaving + computing(to));
        if (to == rank) break;
        queries -= p.q_bytes(to);
        arrived += result_bytes(rank);
        leaving = result_bytes(to);
        c.memory = std::max(c.memory, queries + arrived + leaving);
        c.bytes += p.q_bytes(rank) + leaving;
        c.messages += (p.q_bytes(rank) > 0) + (leaving > 0);
        c.rounds += (p.q_bytes(rank) + p.q_bytes(from) > 0) + (leaving + result_bytes(rank) > 0);
    }
    return c;
}

} // namespace seqpar::plan
