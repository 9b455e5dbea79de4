#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/prefetch.hpp>
#include <seqpar/kernel/flash/row_changes.hpp>

namespace seqpar::flash_detail {

inline constexpr index_t gradient_rows = 48; ///< a multiple of the rows of both products' register tiles
inline constexpr index_t gradient_keys = 96; ///< their dk and dv stay in cache; a multiple of every panel

/// A tile of rows of one head and a block of keys, and all their gradients. Rows and keys that only pad have any finite
/// or other value: nothing of them reaches a real one.
template <class A>
struct gradient_tile {
    const A* q;    ///< [gradient_rows][k_columns], times scale * log2 e; less the log2 e where the score changes values
    const A* dout; ///< [gradient_rows][v_columns]
    const A* lse;  ///< [gradient_rows], times log2 e
    const A* delta; ///< [gradient_rows]
    A* dq;          ///< [gradient_rows][k_columns], less the factor scale

    const A* k;      ///< [panels][dim][panel_keys]
    const A* v;      ///< [panels][dim_v][panel_keys]
    const A* k_rows; ///< [gradient_keys][k_columns]
    A* dk;           ///< [gradient_keys][k_columns], less the factor ln 2, if q has log2 e
    A* dv;           ///< [gradient_keys][v_columns]

    A* p;  ///< [gradient_rows][gradient_keys]: P, times what dropout multiplies it by
    A* ds; ///< [gradient_rows][gradient_keys]: its gradient by q k

    const index_t* first; ///< [gradient_rows]: the row sees keys [first, last) of the block
    const index_t* last;
    index_t rows; ///< of the gradient_rows, those that are real
    index_t dim, dim_v;
    index_t k_columns, v_columns;  ///< head_dims rounded up to full vectors
    index_t first_key, last_key;   ///< outside [first_key, last_key) no row sees a key
    index_t full_begin, full_end;  ///< panels in which every row sees every key
    bool tainted;                  ///< some pair is not seen or without weight, and some q, dout or k is not finite
    const row_changes<A>* changes; ///< what the score does to values; null: nothing
    data_to_come ahead;            ///< the rows of the next tile
    double* slopes;                ///< [gradient_rows]: where changes->slopes, set to the gradients by the head's slope
};

} // namespace seqpar::flash_detail
