#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/score/score.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace seqpar::flash_detail {

/// What each row of a tile sees of a run of keys, and what all of them see.
template <index_t Rows>
struct tile_view {
    std::array<index_t, Rows> first{}, last{};
    index_t rows = 0;                    ///< of the `Rows`, those that are real
    index_t any_first = 0, any_last = 0; ///< some row sees a key: only in [any_first, any_last)
    index_t all_first = 0, all_last = 0; ///< every row sees every key of [all_first, all_last)

    /// Every row sees all of `count` keys.
    void see_all(index_t count) noexcept {
        first.fill(0);
        last.fill(count);
        any_first = all_first = 0;
        any_last = all_last = count;
    }

    /// No row sees any.
    void see_none() noexcept { any_first = any_last = all_first = all_last = 0; }

    /// What row r sees, as a score says it of a run of `count` keys.
    void set(index_t r, interval sight, index_t count) noexcept {
        sight = sight & interval{0, count};
        first[static_cast<std::size_t>(r)] = sight.empty() ? 0 : sight.first;
        last[static_cast<std::size_t>(r)] = sight.empty() ? 0 : sight.last;
    }

    /// From first[r] and last[r] of the rows, which are within a run of `count` keys or empty.
    void summarise(index_t count) noexcept {
        any_first = count, any_last = 0, all_first = 0, all_last = count;
        for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
            all_first = std::max(all_first, first[r]);
            all_last = std::min(all_last, last[r]);
            if (first[r] >= last[r]) continue;
            any_first = std::min(any_first, first[r]);
            any_last = std::max(any_last, last[r]);
        }
        // Rows that pad the tile see what the first one sees, so that they cost nothing; nobody reads them.
        std::fill(first.begin() + rows, first.end(), first[0]);
        std::fill(last.begin() + rows, last.end(), last[0]);
    }
};

} // namespace seqpar::flash_detail
