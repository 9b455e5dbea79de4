#pragma once

#include <seqpar/core/origin.hpp>
#include <seqpar/score/score.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace seqpar {

namespace detail {

/// Rows of a block whose positions ascend, by number.
struct ascending_rows {
    std::vector<run> runs;
    std::vector<index_t> begins; // of each run, the number of its first row
    index_t count = 0;

    void append(const run& r) {
        runs.push_back(r);
        begins.push_back(count);
        count += r.count;
    }
    [[nodiscard]] position operator[](index_t row) const {
        const auto r =
            static_cast<std::size_t>(std::upper_bound(begins.begin(), begins.end(), row) - begins.begin()) - 1;
        return runs[r][row - begins[r]];
    }
    /// Of rows [first, first + number).
    [[nodiscard]] position_range range(index_t first, index_t number) const {
        return {(*this)[first], (*this)[first + number - 1]};
    }

    [[nodiscard]] static bool are_few(const positions& rows) noexcept { return rows.runs().size() <= 4; }
    [[nodiscard]] static std::vector<ascending_rows> of(const positions& rows) {
        const bool few = are_few(rows); // best cut where they end
        std::vector<ascending_rows> all;
        for (const run& r : rows.runs()) {
            if (all.empty() || few || r.first < all.back().runs.back().last()) all.emplace_back();
            all.back().append(r);
        }
        return all;
    }
};

/// Of rows [q, q + rows) and keys [k, k + number).
template <score S>
[[nodiscard]] double pairs_in_tiles(const S& s, lengths n, const ascending_rows& queries, index_t q, index_t rows,
                                    const ascending_rows& keys, index_t k, index_t number, index_t tile) {
    const coverage cover = s.cover(n, queries.range(q, rows), keys.range(k, number));
    if (cover == coverage::none) return 0;
    if (cover == coverage::full || (rows <= tile && number <= tile))
        return static_cast<double>(rows) * static_cast<double>(number);
    const auto half = [&](index_t count) { return std::max(tile, (count / 2 + tile - 1) / tile * tile); };
    if (rows >= number) {
        const index_t upper = half(rows);
        return pairs_in_tiles(s, n, queries, q, upper, keys, k, number, tile) +
               pairs_in_tiles(s, n, queries, q + upper, rows - upper, keys, k, number, tile);
    }
    const index_t left = half(number);
    return pairs_in_tiles(s, n, queries, q, rows, keys, k, left, tile) +
           pairs_in_tiles(s, n, queries, q, rows, keys, k + left, number - left, tile);
}

} // namespace detail

/// Pairs of a row and a key in the tiles, of `tile` rows and keys, in which the score may let some row see some key: what a
/// kernel computes that skips the other tiles. Of many rows tiles are no finer than 1/128 of them, so that the cost does not
/// grow with the sequence: O(runs + tiles that are seen in part), at most some thousand calls of cover.
template <score S>
[[nodiscard]] double pairs_in_tiles(const S& s, lengths n, const positions& queries, const positions& keys,
                                    index_t tile = 128) {
    if (queries.empty() || keys.empty()) return 0;
    if (const coverage all = s.cover(n, queries.range(), keys.range()); all != coverage::partial)
        return all == coverage::none ? 0 : static_cast<double>(queries.size()) * static_cast<double>(keys.size());
    double pairs = 0;
    const auto add = [&](const detail::ascending_rows& q, const detail::ascending_rows& k) {
        pairs += detail::pairs_in_tiles(s, n, q, 0, q.count, k, 0, k.count,
                                        std::max(tile, std::min(q.count, k.count) / 128));
    };
    if (detail::ascending_rows::are_few(queries) && detail::ascending_rows::are_few(keys)) {
        for (const run& q : queries.runs())
            for (const run& k : keys.runs())
                if (const coverage both = s.cover(n, q.range(), k.range()); both == coverage::full)
                    pairs += static_cast<double>(q.count) * static_cast<double>(k.count);
                else if (both == coverage::partial)
                    add(detail::ascending_rows::of({q}).front(), detail::ascending_rows::of({k}).front());
        return pairs;
    }
    const std::vector<detail::ascending_rows> columns = detail::ascending_rows::of(keys);
    for (const detail::ascending_rows& q : detail::ascending_rows::of(queries))
        for (const detail::ascending_rows& k : columns) add(q, k);
    return pairs;
}

} // namespace seqpar
