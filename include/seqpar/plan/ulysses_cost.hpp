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

/// Whether some kv head is read by several members, so that its gradients are sums over them.
[[nodiscard]] inline bool share_keys(const problem& p, std::span<const heads> shares) {
    index_t readers = 0;
    for (const heads& s : shares) readers += s.keys;
    return readers > p.where.front().keys.heads.count;
}

/// What the members of a group of neighbours trade: parcels there and back, as bytes from member i to member j.
template <class Forth, class Back>
struct head_traffic {
    int members, me;
    Forth forth; ///< forth(i, j): rows of i, heads of j
    Back back;   ///< back(i, j): rows of j, heads of i
    std::size_t sent = 0, received = 0, sent_back = 0, received_back = 0;

    head_traffic(const problem& p, int count, int rank, const Forth& there, const Back& home, cost& c)
        : members(count), me(rank), forth(there), back(home) {
        for (int distance = 1; distance < members; ++distance) {
            const int to = (me + distance) % members, from = (me - distance + members) % members;
            c.messages += (forth(me, to) > 0) + (back(me, to) > 0);
            c.rounds += (forth(me, to) + forth(from, me) > 0) + (back(me, to) + back(from, me) > 0);
            p.tell(step::message{members, p.stride, distance, forth(me, to)});
            p.tell(step::message{members, p.stride, distance, back(me, to)});
            sent += forth(me, to), received += forth(from, me);
            sent_back += back(me, to), received_back += back(from, me);
        }
        c.bytes += sent + sent_back;
    }
};

/// The rows of a group of u = shares.size() neighbours.
class head_group {
public:
    head_group(const problem& p, int rank, std::span<const heads> shares)
        : p_(p), shares_(shares), me_(rank % static_cast<int>(shares.size())), first_(rank - me_) {}

    [[nodiscard]] int members() const noexcept { return static_cast<int>(shares_.size()); }
    [[nodiscard]] int me() const noexcept { return me_; }
    /// Elements of a tensor with `dim` for each query head, and for each kv head: the rows of i, the heads of j.
    [[nodiscard]] std::size_t of_queries(int i, int j, index_t dim) const {
        return count(p_.of(first_ + i).queries.rows.size(), share(j).queries, dim);
    }
    [[nodiscard]] std::size_t of_keys(int i, int j, index_t dim) const {
        return count(p_.of(first_ + i).keys.rows.size(), share(j).keys, dim);
    }
    /// The same over the rows of all members, for the heads of this rank.
    [[nodiscard]] std::size_t all_queries(index_t dim) const {
        std::size_t sum = 0;
        for (int i = 0; i < members(); ++i) sum += of_queries(i, me_, dim);
        return sum;
    }
    [[nodiscard]] std::size_t all_keys(index_t dim) const {
        std::size_t sum = 0;
        for (int i = 0; i < members(); ++i) sum += of_keys(i, me_, dim);
        return sum;
    }

private:
    [[nodiscard]] const heads& share(int j) const { return shares_[static_cast<std::size_t>(j)]; }
    [[nodiscard]] std::size_t count(index_t rows, index_t of_heads, index_t dim) const {
        return static_cast<std::size_t>(p_.batch * rows * of_heads * dim);
    }

    const problem& p_;
    std::span<const heads> shares_;
    int me_, first_;
};

/// Head-parallel all-to-all in groups of u neighbours around an inner strategy that costs `inside`; shares[j]: the heads of
/// the j-th member. A rank sends its rows of the heads of each other member, and later that member's rows of its own heads:
/// (2h + 2k') n (u - 1) / u elements when even, and heads n (u - 1) / u of lse, in 2 (u - 1) messages and rounds.
/// Memory: the most that is held at once of: both sides of the first all-to-all and its result; that result, its outputs
/// and the inner strategy; what is left of them and both sides of the second all-to-all. What is kept: the result, its
/// outputs with lse, and what the inner strategy keeps.
[[nodiscard]] inline cost ulysses_cost(const problem& p, int rank, std::span<const heads> shares, const cost& inside) {
    const head_group g(p, rank, shares);
    const std::size_t e = p.element_bytes, a = p.accumulator_bytes;
    cost c = inside;
    const head_traffic traffic(
        p, g.members(), g.me(),
        [&](int i, int j) { return e * (g.of_queries(i, j, p.dim) + g.of_keys(i, j, p.dim + p.dim_v)); }, // q, k, v
        [&](int i, int j) {
            return e * g.of_queries(j, i, p.dim_v) + (p.lse ? a : 0) * g.of_queries(j, i, 1); // out, lse
        },
        c);
    const std::size_t longer = e * (g.all_queries(p.dim) + g.all_keys(p.dim + p.dim_v));
    const std::size_t outputs = e * g.all_queries(p.dim_v) + (p.lse || p.keep ? a : 0) * g.all_queries(1);
    c.kept = p.keep ? longer + outputs + inside.kept : 0;
    c.memory = std::max({longer + traffic.sent + traffic.received, longer + outputs + inside.memory,
                         std::max(c.kept, outputs) + traffic.sent_back + traffic.received_back});
    return c;
}

/// Its backward. A rank sends dout, and unless they were kept q, k, v, lse and delta (delta also where a gradient flows into
/// lse), as forward sends q, k, v; and dq, dk, dv as forward sends out: dk and dv in the accumulation type where they are no
/// complete sums yet. 2 (u - 1) messages and rounds. Memory: as for forward, of what backward holds.
[[nodiscard]] inline cost ulysses_backward_cost(const problem& p, int rank, std::span<const heads> shares,
                                                const cost& inside) {
    const head_group g(p, rank, shares);
    const std::size_t e = p.element_bytes, a = p.accumulator_bytes;
    const std::size_t of_sums = p.complete && !share_keys(p, shares) ? e : a; // bytes of an element of dk, dv
    const index_t again = p.keep ? 0 : 1, statistics = p.keep ? (p.into_lse ? 1 : 0) : 2;
    cost c = inside;
    const head_traffic traffic(
        p, g.members(), g.me(),
        [&](int i, int j) {
            return e * (g.of_queries(i, j, p.dim_v + again * p.dim) + g.of_keys(i, j, again * (p.dim + p.dim_v))) +
                   a * g.of_queries(i, j, statistics);
        },
        [&](int i, int j) { return e * g.of_queries(j, i, p.dim) + of_sums * g.of_keys(j, i, p.dim + p.dim_v); }, c);
    const std::size_t operands = e * (g.all_queries(p.dim) + g.all_keys(p.dim + p.dim_v));   // q, k, v
    const std::size_t outputs = e * g.all_queries(p.dim_v) + a * g.all_queries(1);           // out, lse
    const std::size_t rows = e * g.all_queries(p.dim_v) + a * g.all_queries(p.keep ? 1 : 2); // dout, delta, lse again
    const std::size_t own = p.keep ? operands + outputs : 0, longer = own + rows + (p.keep ? 0 : operands);
    const std::size_t sums = a * (g.all_queries(p.dim) + g.all_keys(p.dim + p.dim_v));
    c.kept = p.keep ? own + inside.kept : 0;
    c.memory = std::max({longer + (p.keep ? inside.kept : 0) + traffic.sent + traffic.received,
                         longer + sums + inside.memory, c.kept + sums + traffic.sent_back + traffic.received_back});
    return c;
}

} // namespace seqpar::plan
