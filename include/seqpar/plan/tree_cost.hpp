#pragma once

#include <seqpar/plan/cost.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>

namespace seqpar::plan {

/// Whether every rank holds the same queries.
[[nodiscard]] inline bool same_queries(std::span<const placement> where) {
    return std::all_of(where.begin(), where.end(), [&](const placement& p) { return p.queries == where[0].queries; });
}

/// How many ranks take part in recursive doubling: the largest power of two that is at most `size`.
[[nodiscard]] constexpr int doubled_ranks(int size) noexcept {
    return static_cast<int>(std::bit_floor(static_cast<unsigned>(size)));
}

/// What recursive doubling sends: so many bytes each way in each of floor(log2 P) rounds, and where P is no power of two one
/// more message to the rank's partner before, or from it after. See collective::all_reduce_doubling.
[[nodiscard]] inline cost doubling_cost(const problem& p, int rank, std::size_t bytes) {
    const int size = p.size(), doubled = doubled_ranks(size);
    if (bytes == 0) return {};
    for (int distance = 1; distance < doubled; distance *= 2) p.tell(p.message(distance, bytes));
    for (int more = 0; size > doubled && more < 2; ++more) p.tell(p.message(doubled, bytes)); // to the partner and back
    p.tell({}, rank, {&p.of(rank).keys.rows, 1});
    if (rank >= doubled) return {1, bytes, 2, 0};
    const std::size_t outside = rank < size - doubled ? 1 : 0;
    const auto rounds = static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(doubled)));
    return {rounds + outside, (rounds + outside) * bytes, rounds + 2 * outside, 0};
}

namespace detail {

/// Bytes of what the tree moves and holds in one pass, for the rows of rank r.
struct tree_pass {
    function_ref<std::size_t(int r)> gathered; ///< what rank r sends to each rank whose keys its queries see
    function_ref<std::size_t(int r)> piece;    ///< what comes back from each of them
    function_ref<std::size_t(int r)> making;   ///< held while a piece is made, itself included
    std::size_t ending = 0;                    ///< held beside the pieces when they are put together
    bool frees = true;                         ///< what was gathered goes once it has been served
};

[[nodiscard]] inline cost tree_pass_cost(const problem& p, int rank, const tree_pass& pass) {
    const int size = p.size();
    const auto from_to = [&](int from, int to) { // what is gathered
        return from != to && p.sees(p.of(from).queries, p.of(to).keys) ? pass.gathered(from) : 0;
    };
    const auto piece = [&](int of, int by) { return p.sees(p.of(of).queries, p.of(by).keys) ? pass.piece(of) : 0; };
    cost c;
    std::size_t held = 0, arrived = 0, leaving = 0;
    const positions& keys = p.of(rank).keys.rows;
    for (int r = 0; r < size; ++r) held += from_to(r, rank);
    c.memory = held + pass.gathered(rank); // packed once, for all
    for (int distance = 1; distance <= size; ++distance) {
        const int to = (rank + distance) % size, from = (rank - distance + size) % size;
        const bool makes = p.sees(p.of(to).queries, p.of(rank).keys);
        if (makes) c.memory = std::max(c.memory, held + arrived + leaving + pass.making(to));
        const step::message travelling = p.message(distance - 1, leaving); // what the step before has made
        const step::work made{&p.of(to).queries, {&keys, 1}};
        p.tell({&travelling, 1}, std::span(&made, makes ? 1 : 0));
        if (to == rank) break;
        const std::size_t sent = from_to(rank, to), received = from_to(from, rank);
        p.tell(p.message(distance, sent)); // gathered before anything is made
        if (pass.frees) held -= from_to(to, rank);
        leaving = piece(to, rank);
        arrived += piece(rank, from);
        c.memory = std::max(c.memory, held + arrived + leaving);
        c.bytes += sent + leaving;
        c.messages += (sent > 0) + (leaving > 0);
        c.rounds += (sent + received > 0) + (leaving + piece(rank, from) > 0);
    }
    c.memory = std::max(c.memory, held + arrived + piece(rank, rank) + pass.ending);
    return c;
}

} // namespace detail

/// What forward keeps for backward: Q of the others that may see this rank's keys.
[[nodiscard]] inline std::size_t tree_kept_bytes(const problem& p, int rank) {
    std::size_t kept = 0;
    if (!p.keep || same_queries(p.where)) return kept;
    for (int r = 0; r < p.size(); ++r)
        if (r != rank && p.sees(p.of(r).queries, p.of(rank).keys)) kept += p.q_bytes(r);
    return kept;
}

/// Tree. A result is (out, lse) of a rank's rows in the accumulation type.
///
/// Each rank with queries of its own: a rank sends its Q to each of m = P - 1 others, and to each that one's result over its
/// own keys: n h m elements and n m (h + H) accumulators when even, in 2 m messages and rounds; nothing between queries and
/// keys of which none sees another. Memory: the own Q, packed, and that of the others; or the most, over the peers in order
/// of distance and itself last, of: Q of the peers still to be served (kept: all), the results that have arrived, one that
/// leaves and one that is made, its partial and the kernel's scratch.
///
/// The same queries on every rank: results by recursive doubling. Memory: two results and a partial, or one, a partial and
/// the kernel's scratch.
[[nodiscard]] inline cost tree_cost(const problem& p, int rank) {
    const auto result = [&](int r) {
        return p.items(p.of(r).queries) * static_cast<std::size_t>(p.dim_v + 1) * p.accumulator_bytes;
    };
    const auto making = [&](int r) { return result(r) + p.partial_bytes(r) + p.kernel(r, {&p.of(rank).keys.rows, 1}); };
    if (!same_queries(p.where)) {
        const auto q = [&](int r) { return p.q_bytes(r); };
        cost c = detail::tree_pass_cost(p, rank, {q, result, making, p.partial_bytes(rank), !p.keep});
        c.kept = tree_kept_bytes(p, rank);
        return c;
    }
    cost c = doubling_cost(p, rank, result(rank));
    c.memory = making(rank);
    const bool merges = p.size() > 1 && rank < doubled_ranks(p.size());
    if (merges) c.memory = std::max(c.memory, 2 * result(rank) + p.partial_bytes(rank));
    return c;
}

/// Its backward: dout, lse, delta and, unless it was kept, Q go where the keys are, and dq comes back: n h m elements,
/// n h m more if Q was not kept, and n m (2H + h) accumulators when even, in 2 m messages and rounds. Memory as in forward,
/// with dq for results, no partial, and Q of the others if it was kept.
///
/// The same queries on every rank: dq by recursive doubling. Memory: dq, and another one or the kernel's scratch.
[[nodiscard]] inline cost tree_backward_cost(const problem& p, int rank) {
    const auto dq = [&](int r) { return p.q_bytes(r) / p.element_bytes * p.accumulator_bytes; };
    const auto making = [&](int r) { return dq(r) + p.backward_kernel(r, {&p.of(rank).keys.rows, 1}); };
    if (!same_queries(p.where)) {
        const auto rows = [&](int r) { // lse, delta, dout, q
            return p.items(p.of(r).queries) *
                       (2 * p.accumulator_bytes + static_cast<std::size_t>(p.dim_v) * p.element_bytes) +
                   (p.keep ? 0 : p.q_bytes(r));
        };
        cost c = detail::tree_pass_cost(p, rank, {rows, dq, making});
        c.kept = tree_kept_bytes(p, rank);
        c.memory += c.kept;
        return c;
    }
    cost c = doubling_cost(p, rank, dq(rank));
    c.memory = std::max(making(rank), p.size() > 1 ? 2 * dq(rank) : 0);
    return c;
}

} // namespace seqpar::plan
