#pragma once

#include <seqpar/score/score.hpp>

#include <algorithm>
#include <vector>

namespace seqpar {

/// Some rows of a block: where they are in the sequence, and where in the block.
struct row_selection {
    positions at;
    std::vector<interval> rows; ///< rows [first, last) of the block, in order, none empty: as many rows as `at` has
};

namespace detail {

/// Keys of a run that some queries of another one see: an interval, and what is not connected with it among `parts`.
template <score S>
[[nodiscard]] interval seen_by(const S& s, lengths n, const run& q, const run& k, std::vector<interval>& parts) {
    const coverage cover = s.cover(n, q.range(), k.range());
    if (cover == coverage::none) return {};
    interval last{0, cover == coverage::full ? k.count : 0}; // grows as long as what is seen is connected
    bool connected = true;
    const auto unseen = [&](interval rest) { // by any query of the run
        return rest.empty() || s.cover(n, q.range(), {k[rest.first], k[rest.last - 1]}) == coverage::none;
    };
    for (index_t i = 0; i < q.count && (last.first > 0 || last.last < k.count); ++i) {
        // The last query early: with the first one it often sees all that is seen.
        if (i == 2 && connected && !last.empty() && unseen({0, last.first}) && unseen({last.last, k.count})) break;
        const interval sight = s.visible(n, q[i == 0 ? 0 : q.count - i], k) & interval{0, k.count};
        if (sight.empty()) continue;
        if (!last.empty() && (sight.first > last.last || sight.last < last.first)) {
            parts.push_back(last);
            connected = false;
            last = sight;
        } else {
            last = last.empty() ? sight : interval{std::min(last.first, sight.first), std::max(last.last, sight.last)};
        }
    }
    return last;
}

} // namespace detail

/// The rows of a block of keys that some of these queries see. O(queries * runs of keys) at most, less where tiles are seen
/// wholly or not at all.
template <score S>
[[nodiscard]] row_selection rows_seen(const S& s, lengths n, const positions& queries, const positions& keys) {
    row_selection seen;
    if (queries.empty()) return seen;
    const position_range all_queries = queries.range();
    index_t begin = 0; // of the run in the block
    for (const run& k : keys.runs()) {
        std::vector<interval> parts; // of the run: what some queries see, in any order
        const coverage by_all = s.cover(n, all_queries, k.range());
        if (by_all == coverage::full) parts.push_back({0, k.count});
        // Of many runs the last one first: what a mask hides from most of the others it often shows that one.
        for (std::size_t r = 0; r < queries.runs().size() && by_all == coverage::partial; ++r) {
            const interval sight =
                detail::seen_by(s, n, queries.runs()[r == 0 ? queries.runs().size() - 1 : r - 1], k, parts);
            if (!sight.empty()) parts.push_back(sight);
            if (sight.first == 0 && sight.last == k.count) break;
        }
        std::sort(parts.begin(), parts.end(), [](interval a, interval b) { return a.first < b.first; });
        for (auto part = parts.begin(); part != parts.end();) {
            interval whole = *part++;
            for (; part != parts.end() && part->first <= whole.last; ++part)
                whole.last = std::max(whole.last, part->last);
            seen.at.append({k[whole.first], k.stride, whole.last - whole.first});
            seen.rows.push_back({begin + whole.first, begin + whole.last});
        }
        begin += k.count;
    }
    return seen;
}

/// Whether some of these queries may see some of these keys: by the tiles of their runs alone. O(runs * runs).
template <score S>
[[nodiscard]] bool may_see(const S& s, lengths n, const positions& queries, const positions& keys) {
    if (queries.empty() || keys.empty()) return false;
    if (queries.runs().size() > 1 || keys.runs().size() > 1)
        if (const coverage all = s.cover(n, queries.range(), keys.range()); all != coverage::partial)
            return all == coverage::full;
    for (const run& q : queries.runs())
        for (const run& k : keys.runs())
            if (s.cover(n, q.range(), k.range()) != coverage::none) return true;
    return false;
}

} // namespace seqpar
