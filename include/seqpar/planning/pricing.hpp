#pragma once

#include <seqpar/core/placement.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/plan/cost.hpp>
#include <seqpar/planning/workload.hpp>
#include <seqpar/score/rows_seen.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::detail {

/// Where each rank's rows and heads are.
[[nodiscard]] inline std::vector<placement> placements(const attention_shape& s, const any_layout& layout, int ranks) {
    std::vector<placement> where;
    for (int r = 0; r < ranks; ++r)
        where.push_back({{layout.positions(r, ranks, s.queries), {0, s.heads}},
                         {layout.positions(r, ranks, s.keys), {0, s.kv_heads}}});
    return where;
}

/// A workload as strategies price it: without the scratch of a kernel.
class pricing {
public:
    /// `work` and `where` must outlive it.
    pricing(const workload& work, std::span<const placement> where)
        : n_{work.shape.queries, work.shape.keys}, score_(work.score), where_(where), work_(work) {}
    pricing(const pricing&) = delete;
    pricing& operator=(const pricing&) = delete;

    /// Refers to this object and to the watcher.
    [[nodiscard]] plan::problem problem(plan::step_watcher watch) const {
        const attention_shape& s = work_.shape;
        return {.batch = s.batch,
                .dim = s.dim,
                .dim_v = s.dim_v,
                .group = s.heads / s.kv_heads,
                .element_bytes = element_bytes(work_.type),
                .accumulator_bytes = accumulator_bytes(work_.type),
                .lse = work_.lse || work_.train,
                .keep = work_.train && work_.keep,
                .where = where_,
                .kernel_bytes = no_scratch,
                .sees = sees_,
                .seen = seen_,
                .watch = watch};
    }

    /// Bytes of what a rank has and gets: q, k, v, out, lse; in training dout and delta, dq, dk, dv, and while they are summed
    /// those in the accumulation type.
    [[nodiscard]] std::size_t own_bytes(int rank) const {
        const attention_shape& s = work_.shape;
        const placement& at = where_[static_cast<std::size_t>(rank)];
        const auto count = [&](const origin& o, index_t dim) {
            return static_cast<std::size_t>(s.batch * o.rows.size() * o.heads.count * dim);
        };
        const std::size_t e = element_bytes(work_.type), a = accumulator_bytes(work_.type);
        const std::size_t inputs = count(at.queries, s.dim) + count(at.keys, s.dim + s.dim_v),
                          rows = count(at.queries, 1), out = count(at.queries, s.dim_v);
        const std::size_t forward = e * (inputs + out) + (work_.lse || work_.train ? a * rows : 0);
        if (!work_.train) return forward;
        return forward + e * (out + inputs) + a * rows + (a != e ? a * inputs : 0);
    }

private:
    static constexpr auto no_scratch = [](const extents&, const extents&, std::span<const positions>) {
        return std::size_t{0};
    };

    lengths n_;
    const any_score& score_;
    std::span<const placement> where_;
    const workload& work_;
    struct {
        const pricing& of;
        bool operator()(const origin& q, const origin& k) const { return may_see(of.score_, of.n_, q.rows, k.rows); }
    } sees_{*this};
    struct {
        const pricing& of;
        positions operator()(const origin& q, const origin& k) const {
            return rows_seen(of.score_, of.n_, q.rows, k.rows).at;
        }
    } seen_{*this};
};

} // namespace seqpar::detail
