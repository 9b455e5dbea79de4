#pragma once

#include <seqpar/core/function_ref.hpp>
#include <seqpar/core/placement.hpp>
#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::plan {

/// What one rank pays for one forward attention: what it sends, in how many rounds, and the most memory that it holds
/// beyond its own q, k, v, out and lse.
struct cost {
    std::size_t messages = 0; ///< nonempty, to other ranks
    std::size_t bytes = 0;    ///< sent to other ranks
    std::size_t rounds = 0;   ///< sets of exchanges between two waits, in which this rank sends or receives
    std::size_t memory = 0;   ///< peak, bytes

    friend bool operator==(const cost&, const cost&) = default;
};

/// An attention to be priced. Sizes are integers and rows may differ from rank to rank.
struct problem {
    index_t batch = 1, dim = 0, dim_v = 0;
    index_t group = 1; ///< query heads per kv head
    std::size_t element_bytes = 4, accumulator_bytes = 4;
    bool lse = true;                  ///< lse is returned
    std::span<const placement> where; ///< of every rank
    /// Scratch of the kernel for these queries, values of this shape and keys at these positions.
    function_ref<std::size_t(const extents& q, const extents& v, std::span<const positions> keys)> kernel_bytes;

    [[nodiscard]] int size() const noexcept { return static_cast<int>(where.size()); }
    [[nodiscard]] const placement& of(int rank) const { return where[static_cast<std::size_t>(rank)]; }

    [[nodiscard]] std::size_t q_bytes(int rank) const { return bytes(of(rank).queries, dim); }
    [[nodiscard]] std::size_t k_bytes(int rank) const { return bytes(of(rank).keys, dim); }
    [[nodiscard]] std::size_t v_bytes(int rank) const { return bytes(of(rank).keys, dim_v); }
    [[nodiscard]] std::size_t kv_bytes(int rank) const { return k_bytes(rank) + v_bytes(rank); }

    /// (acc, max, sum) of the rank's rows.
    [[nodiscard]] std::size_t partial_bytes(int rank) const {
        return items(of(rank).queries) * static_cast<std::size_t>(dim_v + 2) * accumulator_bytes;
    }
    [[nodiscard]] std::size_t kernel(int rank, std::span<const positions> keys) const {
        const origin& q = of(rank).queries;
        return kernel_bytes({batch, q.rows.size(), q.heads.count, dim}, {batch, 0, of(rank).keys.heads.count, dim_v},
                            keys);
    }

    /// Rows x heads x batch.
    [[nodiscard]] std::size_t items(const origin& o) const {
        return static_cast<std::size_t>(batch * o.rows.size() * o.heads.count);
    }

private:
    [[nodiscard]] std::size_t bytes(const origin& o, index_t d) const {
        return items(o) * static_cast<std::size_t>(d) * element_bytes;
    }
};

/// One rank, nothing sent: the partial and the kernel's scratch.
[[nodiscard]] inline cost serial_cost(const problem& p, int rank) {
    const positions& keys = p.of(rank).keys.rows;
    return {0, 0, 0, p.partial_bytes(rank) + p.kernel(rank, {&keys, 1})};
}

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

/// Heads of one member of a head-parallel group.
struct heads {
    index_t queries = 0, keys = 0;
};

/// Head-parallel all-to-all in groups of u neighbours around an inner strategy that costs `inside`; shares[j]: the heads of
/// the j-th member. A rank sends its rows of the heads of each other member, and later that member's rows of its own heads:
/// (2h + 2k') n (u - 1) / u elements when even, and heads n (u - 1) / u of lse, in 2 (u - 1) messages and rounds.
/// Memory: the most that is held at once of: both sides of the first all-to-all and its result; that result, its outputs
/// and the inner strategy; the outputs and both sides of the second all-to-all.
[[nodiscard]] inline cost ulysses_cost(const problem& p, int rank, std::span<const heads> shares, const cost& inside) {
    const int members = static_cast<int>(shares.size()), me = rank % members, first = rank - me;
    const auto share = [&](int j) { return shares[static_cast<std::size_t>(j)]; };
    const auto rows = [&](int j) { return p.of(first + j).queries.rows.size(); };
    const auto keys = [&](int j) { return p.of(first + j).keys.rows.size(); };
    const auto forth = [&](int rows_of, int heads_of) { // Q, K, V
        return static_cast<std::size_t>(p.batch * (rows(rows_of) * share(heads_of).queries * p.dim +
                                                   keys(rows_of) * share(heads_of).keys * (p.dim + p.dim_v))) *
               p.element_bytes;
    };
    const auto back = [&](int rows_of, int heads_of) { // out, lse
        return static_cast<std::size_t>(p.batch * rows(rows_of) * share(heads_of).queries) *
               (static_cast<std::size_t>(p.dim_v) * p.element_bytes + (p.lse ? p.accumulator_bytes : 0));
    };

    cost c = inside;
    std::size_t sent = 0, received = 0, longer = forth(me, me), sent_back = 0, received_back = 0,
                outputs = back(me, me);
    for (int distance = 1; distance < members; ++distance) {
        const int to = (me + distance) % members, from = (me - distance + members) % members;
        c.messages += (forth(me, to) > 0) + (back(to, me) > 0);
        c.rounds += (forth(me, to) + forth(from, me) > 0) + (back(to, me) + back(me, from) > 0);
        sent += forth(me, to);
        received += forth(from, me);
        sent_back += back(to, me);
        received_back += back(me, from);
        longer += forth(from, me);
        outputs += back(from, me);
    }
    c.bytes += sent + sent_back;
    c.memory =
        std::max({longer + sent + received, longer + outputs + inside.memory, outputs + sent_back + received_back});
    return c;
}

} // namespace seqpar::plan
