/// @file
/// The product of layouts, scores and shapes that every strategy is held to.
#pragma once

#include <support/scheme_case.hpp>

#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <vector>

namespace seqpar::testing {

[[nodiscard]] inline std::vector<any_layout> all_layouts() { return {contiguous{}, zigzag{}, striped{}}; }

[[nodiscard]] inline std::vector<any_score> all_scores() {
    return {full{},
            causal{},
            causal{alignment::bottom_right()},
            causal{alignment::at(-6)},
            sliding_window{9, 4},
            causal{} & sliding_window{30, 30}};
}

/// batch, Nq, Nk, heads, kv_heads, dim, dim of v
[[nodiscard]] inline std::vector<attention_shape> small_shapes() {
    return {
        {1, 37, 37, 4, 4, 8, 8},                         // multi-head
        {2, 37, 37, 6, 3, 16, 5},                        // grouped, batch, dim of v other than that of q
        {1, 41, 41, 5, 1, 7, 7},                         // multi-query, heads that no P divides
        {1, 29, 53, 9, 3, 4, 12},                        // cross; shares that straddle groups
        {2, 53, 17, 2, 2, 3, 3},                         // more queries than keys; heads < P
        {1, 3, 3, 4, 2, 8, 8},                           // N < P
        {1, 1, 5, 3, 3, 8, 8},    {1, 0, 7, 2, 1, 4, 4}, // no queries
        {1, 7, 0, 2, 1, 4, 4},                           // no keys
        {1, 0, 0, 2, 2, 4, 4},
    };
}

/// At least two kernel tiles of keys in every shard of up to 7, so that a missing rescale shows.
[[nodiscard]] inline std::vector<attention_shape> tiled_shapes() {
    return {{1, 701, 701, 4, 2, 16, 24}, {1, 350, 733, 3, 1, 33, 20}};
}

} // namespace seqpar::testing
