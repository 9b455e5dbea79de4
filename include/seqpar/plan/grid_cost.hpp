#pragma once

#include <seqpar/core/interleave.hpp>
#include <seqpar/plan/cost.hpp>
#include <seqpar/plan/tree_cost.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::plan {

/// P = pa * pc ranks as pa rows of pc neighbours. A row shares its queries, a column its keys.
struct rank_grid {
    int pa = 1, pc = 1;

    friend bool operator==(const rank_grid&, const rank_grid&) = default;

    [[nodiscard]] int row(int rank) const noexcept { return rank / pc; }
    [[nodiscard]] int column(int rank) const noexcept { return rank % pc; }
    [[nodiscard]] int rank(int row, int column) const noexcept { return row * pc + column; }

    /// Whether some queries of a row may see some keys of a rank.
    template <class Sees>
    [[nodiscard]] bool needs(std::span<const placement> where, const Sees& sees, int of_row, int keys_of) const {
        for (int c = 0; c < pc; ++c)
            if (sees(at(where, rank(of_row, c)).queries, at(where, keys_of).keys)) return true;
        return false;
    }
    /// The keys of a rank's column that its row needs, in as global an order as interleave() can give. Sources: the ranks of
    /// the column.
    template <class Sees>
    [[nodiscard]] interleaved keys(std::span<const placement> where, const Sees& sees, int of) const {
        std::vector<positions> rows;
        for (int a = 0; a < pa; ++a) {
            const int source = rank(a, column(of));
            rows.push_back(needs(where, sees, row(of), source) ? at(where, source).keys.rows : positions{});
        }
        return interleave(rows);
    }
    /// What the ranks of a row hold once the columns have shared their keys.
    template <class Sees>
    [[nodiscard]] std::vector<placement> shared(std::span<const placement> where, const Sees& sees, int of_row) const {
        std::vector<placement> result;
        for (int c = 0; c < pc; ++c) {
            const placement& own = at(where, rank(of_row, c));
            result.push_back({own.queries, {keys(where, sees, rank(of_row, c)).rows, own.keys.heads}});
        }
        return result;
    }

private:
    [[nodiscard]] static const placement& at(std::span<const placement> where, int rank) {
        return where[static_cast<std::size_t>(rank)];
    }
};

/// The grid of that many ranks with the least pc * heads + pa * kv_heads; of equals, that with the fewest columns. Forward and
/// backward together send 2 n (e + a) (h (pc - 1) + k (pa - 1)) bytes and lse and delta, e and a bytes an element: pc is near
/// sqrt(P kv_heads / heads).
[[nodiscard]] inline rank_grid least_sent(int size, const placement& like) {
    rank_grid best{size, 1};
    const auto sent = [&](const rank_grid& g) {
        return g.pc * like.queries.heads.count + g.pa * like.keys.heads.count;
    };
    for (int pc = 2; pc <= size; ++pc)
        if (const rank_grid g{size / pc, pc}; size % pc == 0 && sent(g) < sent(best)) best = g;
    return best;
}

/// The grid where a side of 0 follows from the other; both: see least_sent.
[[nodiscard]] inline rank_grid completed(const rank_grid& asked, int size, const placement& like) {
    if (asked.pa > 0) return {asked.pa, size / asked.pa};
    if (asked.pc > 0) return {size / asked.pc, asked.pc};
    return least_sent(size, like);
}

namespace detail {

/// K and V as they travel along a column, in bytes of the storage type.
struct column_bytes {
    std::size_t own = 0;     ///< of this rank
    std::size_t arrived = 0; ///< of the others that its row needs
    std::size_t joined = 0;  ///< arrived, and the own if the row needs them
    std::size_t sent = 0;    ///< to the rows that need this rank's
    cost forth, back;        ///< messages, bytes and rounds of bringing keys, and of returning as many gradients
    std::vector<step::message> forth_messages, back_messages; ///< one a round
};

[[nodiscard]] inline column_bytes column_cost(const problem& p, const rank_grid& g, int rank) {
    const auto to_row = [&](int source, int row) {
        return g.needs(p.where, p.sees, row, source) ? p.kv_bytes(source) : 0;
    };
    column_bytes c;
    const int me = g.row(rank), column = g.column(rank);
    c.own = p.kv_bytes(rank);
    for (int distance = 1; distance < g.pa; ++distance) {
        const int to = (me + distance) % g.pa, from = (me - distance + g.pa) % g.pa;
        const std::size_t sent = to_row(rank, to), received = to_row(g.rank(from, column), me);
        c.forth.bytes += sent, c.forth.messages += sent > 0, c.forth.rounds += sent + received > 0;
        // Gradients go the other way.
        const std::size_t returned = to_row(g.rank(to, column), me), came = to_row(rank, from);
        c.forth_messages.push_back({g.pa, p.stride * g.pc, distance, sent});
        c.back_messages.push_back({g.pa, p.stride * g.pc, distance, returned});
        c.back.bytes += returned, c.back.messages += returned > 0, c.back.rounds += returned + came > 0;
        c.arrived += received, c.sent += sent;
    }
    c.joined = c.arrived + to_row(rank, me);
    return c;
}

inline void add_traffic(cost& to, const cost& more) {
    to.messages += more.messages, to.bytes += more.bytes, to.rounds += more.rounds;
}

} // namespace detail

/// Grid of pa x pc around a tree over each row that costs `inside`, with the keys of the column. A rank sends its K, V to
/// pa - 1 others of its column: 2 n k (pa - 1) elements when even. Memory: K, V of the column, and the tree; or, while they
/// are brought, the own, packed, or the joined and those that have arrived.
[[nodiscard]] inline cost grid_cost(const problem& p, const rank_grid& g, int rank, const cost& inside) {
    const detail::column_bytes keys = detail::column_cost(p, g, rank);
    cost c = inside;
    for (const step::message& m : keys.forth_messages) p.tell(m);
    detail::add_traffic(c, keys.forth);
    c.memory = std::max({keys.own + keys.arrived, keys.arrived + keys.joined, keys.joined + inside.memory});
    c.kept = p.keep ? keys.joined + inside.kept : 0;
    return c;
}

/// Its backward around that of the tree: K, V as in forward unless they were kept, and 2 n k (pa - 1) accumulators of dk, dv
/// back. Memory: what was kept, and the most of: bringing K, V; K, V and dk, dv of the column and
/// the tree; dk, dv of the column and what is sent of them; what is sent and what arrives.
[[nodiscard]] inline cost grid_backward_cost(const problem& p, const rank_grid& g, int rank, const cost& inside) {
    const detail::column_bytes keys = detail::column_cost(p, g, rank);
    const auto sums = [&](std::size_t bytes) { return bytes / p.element_bytes * p.accumulator_bytes; };
    cost c = inside;
    detail::add_traffic(c, keys.back);
    c.bytes += sums(keys.back.bytes) - keys.back.bytes;
    for (step::message m : keys.back_messages) {
        m.bytes = sums(m.bytes);
        p.tell(m);
    }
    if (!p.keep) {
        for (const step::message& m : keys.forth_messages) p.tell(m);
        detail::add_traffic(c, keys.forth);
    }
    c.kept = p.keep ? keys.joined + inside.kept : 0;
    const std::size_t arriving = sums(keys.sent), joined = sums(keys.joined);
    c.memory = std::max(keys.joined + joined + inside.memory, c.kept + joined + std::max(joined, arriving));
    if (!p.keep) c.memory = std::max({c.memory, keys.own + keys.arrived, keys.arrived + keys.joined});
    return c;
}

} // namespace seqpar::plan
