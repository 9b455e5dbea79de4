#pragma once

#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace seqpar::flash_detail {

inline constexpr index_t gradient_rows = 48; ///< a multiple of the rows of both products' register tiles
inline constexpr index_t gradient_keys = 96; ///< their dk and dv stay in cache; a multiple of every panel

/// What each row of a tile sees of a block of keys, and what all of them see.
struct gradient_view {
    std::array<index_t, gradient_rows> first{}, last{};
    index_t any_first = 0, any_last = 0; ///< some row sees a key: only in [any_first, any_last)
    index_t all_first = 0, all_last = 0; ///< every row sees every key of [all_first, all_last)

    /// From first[r] and last[r] of `rows` rows, which are within a block of `count` keys or empty.
    void summarise(index_t rows, index_t count) noexcept {
        any_first = count, any_last = 0, all_first = 0, all_last = count;
        for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
            all_first = std::max(all_first, first[r]);
            all_last = std::min(all_last, last[r]);
            if (first[r] >= last[r]) continue;
            any_first = std::min(any_first, first[r]);
            any_last = std::max(any_last, last[r]);
        }
    }
};

/// A tile of rows of one head and a block of keys, and all their gradients. Rows and keys that only pad have any finite
/// or other value: nothing of them reaches a real one.
template <class A>
struct gradient_tile {
    const A* q;     ///< [gradient_rows][k_columns], times scale * log2 e
    const A* dout;  ///< [gradient_rows][v_columns]
    const A* lse;   ///< [gradient_rows], times log2 e
    const A* delta; ///< [gradient_rows]
    A* dq;          ///< [gradient_rows][k_columns], less the factor scale

    const A* k;      ///< [panels][dim][panel_keys]
    const A* v;      ///< [panels][dim_v][panel_keys]
    const A* k_rows; ///< [gradient_keys][k_columns]
    A* dk;           ///< [gradient_keys][k_columns], less the factor ln 2
    A* dv;           ///< [gradient_keys][v_columns]

    A* p;  ///< [gradient_rows][gradient_keys]: P
    A* ds; ///< [gradient_rows][gradient_keys]: P (dout v - delta)

    const index_t* first; ///< [gradient_rows]: the row sees keys [first, last) of the block
    const index_t* last;
    index_t rows; ///< of the gradient_rows, those that are real
    index_t dim, dim_v;
    index_t k_columns, v_columns; ///< head_dims rounded up to full vectors
    index_t first_key, last_key;  ///< outside [first_key, last_key) no row sees a key
    index_t full_begin, full_end; ///< panels in which every row sees every key
    bool tainted;                 ///< some pair is not seen, and some q, dout or k is not finite
};

} // namespace seqpar::flash_detail
