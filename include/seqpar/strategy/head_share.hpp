#pragma once

#include <seqpar/core/interleave.hpp>
#include <seqpar/core/placement.hpp>
#include <seqpar/layout/layout.hpp>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace seqpar {

/// The heads of one member of a head-parallel group: a range of the query heads and the kv heads that they read.
struct head_share {
    head_range queries, keys;
};

/// Cuts the heads of a block into `members` shares that differ by one query head at most. Where a group of query heads is
/// cut, both sides get its kv head. `group`: query heads per kv head.
[[nodiscard]] inline std::vector<head_share> share_heads(const head_range& heads, index_t group, int members) {
    std::vector<head_share> shares;
    for (int j = 0; j < members; ++j) {
        const run part = detail::even_part(j, members, heads.count);
        const head_range queries{heads.first + part.first.value, part.count};
        const index_t first = queries.first / group, end = (queries.first + queries.count - 1) / group + 1;
        shares.push_back({queries, {first, queries.count == 0 ? 0 : end - first}});
    }
    return shares;
}

/// The rows of several ranks in as global an order as interleave() can give.
[[nodiscard]] inline interleaved join_rows(std::span<const placement> ranks, origin placement::*which) {
    std::vector<positions> rows;
    for (const placement& p : ranks) rows.push_back((p.*which).rows);
    return interleave(rows);
}

/// What the ranks hold once groups of `members` neighbours have traded rows for heads: the placements of those that hold
/// the same share `which` as this one, one of each group.
[[nodiscard]] inline std::vector<placement> regroup(std::span<const placement> where, const head_share& share,
                                                    int members) {
    std::vector<placement> result;
    for (std::size_t first = 0; first < where.size(); first += static_cast<std::size_t>(members)) {
        const auto ranks = where.subspan(first, static_cast<std::size_t>(members));
        positions queries = join_rows(ranks, &placement::queries).rows;
        const bool alike =
            std::all_of(ranks.begin(), ranks.end(), [](const placement& p) { return p.queries.rows == p.keys.rows; });
        positions keys = alike ? queries : join_rows(ranks, &placement::keys).rows;
        result.push_back({{std::move(queries), share.queries}, {std::move(keys), share.keys}});
    }
    return result;
}

} // namespace seqpar
