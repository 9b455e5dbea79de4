#pragma once

#include <seqpar/kernel/flash/fold.hpp>
#include <seqpar/kernel/flash/packing.hpp>
#include <seqpar/kernel/flash/prefetch.hpp>
#include <seqpar/kernel/flash/products.hpp>
#include <seqpar/kernel/flash/simd.hpp>
#include <seqpar/kernel/flash/tile.hpp>

#include <algorithm>
#include <limits>

namespace seqpar::flash_detail {

/// The most rows of a tile for which keys are read in place.
inline constexpr index_t in_place_rows = 8;

/// x[r][j] = q_r . k_j for Rows rows and `lanes` keys, which become columns on their way through the registers. The same
/// sums in the same order as those of multiply_panel. dim: of full vectors.
template <class S, int Rows, class T>
[[gnu::always_inline]] inline void score_in_place(const typename S::value_type* q, index_t q_step, const T* k,
                                                  index_t k_step, index_t dim, typename S::value_type* x) {
    using vector = typename S::vector;
    constexpr int W = S::lanes;
    constexpr index_t line = std::max(index_t{W}, cache_line / index_t{sizeof(T)}); // elements
    vector sum[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) sum[r] = vector{};
    for (index_t d = 0; d < dim; d += W) {
        vector key[W];
#pragma GCC unroll 16
        for (int j = 0; j < W; ++j) load_as<S>(k + j * k_step + d, key[j]);
        transpose_square<S>(key);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) {
            if (d % line == 0) ask_for_keys_after(k + i * k_step + d, k_step);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) sum[r] += (q[r * q_step + d + i] - vector{}) * key[i];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) store<S>(x + r * block_keys) = sum[r];
}

/// Whether some score of a group of rows with a panel exceeds its reference by too much.
template <class S>
[[nodiscard]] [[gnu::always_inline]] inline bool exceed_reference(const typename S::value_type* x,
                                                                  const typename S::value_type* reference) {
    using A = typename S::value_type;
    using vector = typename S::vector;
    vector excess = std::numeric_limits<A>::lowest() - vector{};
#pragma GCC unroll 8
    for (int r = 0; r < S::score_rows; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < S::score_vectors; ++c) {
            const vector over = load<S>(x + r * block_keys + c * S::lanes) - (reference[r] - vector{});
            excess = over > excess ? over : excess; // NaN hides no other score
        }
    return any_above<S>(excess, static_cast<A>(lazy_threshold));
}

/// fold_panels for few rows, as of a step of decoding, and keys that all of them see. Reading the keys takes longer than
/// multiplying them, so each is read once, where it lies, and asked for before.
template <class Target, class A, class T>
[[gnu::always_inline]] inline void fold_keys_in_place(const tile<A>& t, const keys_in_place<T>& s) {
    using S = typename Target::template simd_of<A>;
    constexpr int R = S::score_rows;
    constexpr index_t W = S::lanes, keys = S::panel_keys;
    static_assert(R <= in_place_rows && in_place_rows % R == 0 && in_place_rows <= least_tile_rows);
    for (index_t panel = 0; panel < s.panels; ++panel) {
        A* const scores = t.p + panel * keys;
        for (index_t j = 0; j < keys; j += W) {
            const T* const k = s.k + (panel * keys + j) * s.k_step;
            if (t.rows <= R)
                score_in_place<S, R>(t.q, t.q_columns, k, s.k_step, t.dim, scores + j);
            else
                score_in_place<S, in_place_rows>(t.q, t.q_columns, k, s.k_step, t.dim, scores + j);
        }
        for (index_t r = 0; r < t.rows; r += R) {
            A* const x = scores + r * block_keys;
            if (exceed_reference<S>(x, t.reference + r))
                Target::raise(x, t.p + r * block_keys, panel * keys, t.reference + r, t.sums + r * W,
                              t.acc + r * t.columns, t.columns);
            weigh_vectors<S, S::score_vectors>(x, t.reference + r, t.sums + r * W);
        }
    }
    add_product<S, S::score_rows, 3, block_keys, 1, true>(t.p, s.v, s.v_step, s.panels * keys, t.columns, t.acc, 0,
                                                          t.rows);
}

} // namespace seqpar::flash_detail
