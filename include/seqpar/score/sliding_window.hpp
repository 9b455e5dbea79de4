#pragma once

#include <seqpar/score/alignment.hpp>

#include <string>

namespace seqpar {

/// A query at position p sees the keys from p - left to p + right, both ends included; -1 leaves an end open.
/// (The window_size of FlashAttention. Mistral's window of W keys is left = W - 1, right = 0.)
struct sliding_window {
    static constexpr index_t open = -1;

    index_t left = open, right = open;
    alignment align = {};

    [[nodiscard]] coverage cover(lengths n, position_range q, position_range k) const noexcept {
        const index_t shift = align.shift(n);
        // Distances key - query that occur in the tile, from the closest to the left to the furthest to the right.
        const index_t low = k.first - q.last - shift, high = k.last - q.first - shift;
        if ((left != open && high < -left) || (right != open && low > right)) return coverage::none;
        if ((left == open || low >= -left) && (right == open || high <= right)) return coverage::full;
        return coverage::partial;
    }
    [[nodiscard]] interval visible(lengths n, position i, const run& keys) const noexcept {
        if (keys.count == 0) return {};
        const position p = i + align.shift(n);
        return between(keys, left == open ? keys.first : p + -left, right == open ? keys.last() : p + right);
    }
    void check() const {
        align.check();
        for (const index_t side : {left, right})
            if (side < open || side > alignment::limit)
                throw refusal(detail::concat("window of ", left, " to the left and ", right,
                                             " to the right: each must be -1 (open) or 0 to 2^60"));
    }
    [[nodiscard]] std::string name() const {
        return detail::concat("sliding_window(", left, ", ", right, ", ", align.name(), ')');
    }
};
static_assert(score<sliding_window>);

} // namespace seqpar
