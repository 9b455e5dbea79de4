#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/prefetch.hpp>
#include <seqpar/kernel/flash/row_changes.hpp>

namespace seqpar::flash_detail {

/// Rows that meet a block of keys while it is in the first cache: the more, the less often others bring it there again. They
/// and their weights must fit there, too. Multiples of the rows of all products' register tiles.
inline constexpr index_t most_tile_rows = 48, least_tile_rows = 24;
inline constexpr index_t block_keys = 96; ///< keys between two visits of the accumulators; a multiple of every panel

/// The score, in exponents of 2, by which a row may exceed its reference before the reference is raised. Any value is
/// exact, since sum and acc share the reference; 2^10 leaves plenty of range and is rarely exceeded after the first
/// panels.
inline constexpr int lazy_threshold = 10;

/// Rows of the query heads that read one kv head, and their softmax while it is under way.
template <class A>
struct tile {
    A scale;      ///< by which q is multiplied
    const A* q;   ///< [tile_rows][q_columns], times scale * log2 e; less the log2 e where the score changes values
    A* p;         ///< scratch for scores, then weights: [tile_rows][block_keys], or what an engine makes of it
    A* acc;       ///< [tile_rows][columns]
    A* sums;      ///< [tile_rows][lanes]: the row's sum is the sum over the lanes
    A* reference; ///< [tile_rows]: exponents are relative to it. Finite, unless a score was infinite
    const index_t* first; ///< [tile_rows]: the row sees keys [first, last) of the run
    const index_t* last;
    index_t rows;                  ///< of the tile_rows, those that are real
    index_t dim;                   ///< head_dim of q and k
    index_t q_columns;             ///< the same, rounded up to full vectors
    index_t columns;               ///< head_dim of v, rounded up to full vectors
    const row_changes<A>* changes; ///< what the score does to values; null: nothing
};

/// Panels [begin, end) of one run of keys.
template <class A>
struct stretch {
    const A* k; ///< [panels][dim][panel_keys], from panel `base` on
    const A* v; ///< [panels * panel_keys] rows, v_step apart
    index_t v_step;
    const unsigned char* tainted; ///< [panels]: whether some v of the panel is not finite
    index_t base;                 ///< the panel of the run with which k, v and tainted begin
    index_t begin, end;
    index_t full_begin, full_end; ///< panels in which every row sees every key
    index_t first_key, last_key;  ///< outside [first_key, last_key) no row sees a key
};

/// Keys and values of one head where the user has them: full panels, at most a block of them, of which every row sees all.
template <class T>
struct keys_in_place {
    const T *k, *v;
    index_t k_step, v_step; ///< from a key to the next one
    index_t panels = 0;
};

} // namespace seqpar::flash_detail
