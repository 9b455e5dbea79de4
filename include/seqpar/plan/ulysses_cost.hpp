#pragma once

#include <seqpar/plan/cost.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace seqpar::plan {

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
