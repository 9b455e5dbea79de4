#pragma once

#include <seqpar/kernel/flash/exp2.hpp>
#include <seqpar/kernel/flash/simd.hpp>
#include <seqpar/kernel/flash/tile.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace seqpar::flash_detail {

/// Scores of a group of rows with a panel of keys: x[r][j] = q_r . k_j, -inf where `Masked` and not first[r] <= j <
/// last[r]. q: [dim][R], k: [dim][panel_keys], x: rows block_keys apart. Tells whether some row must raise its
/// reference.
template <class S, bool Masked>
[[gnu::always_inline]] inline bool
score_panel(const typename S::value_type* q, const typename S::value_type* k, index_t dim, typename S::value_type* x,
            const typename S::value_type* reference, const typename S::value_type* first,
            const typename S::value_type* last) {
    using A = typename S::value_type;
    using vector = typename S::vector;
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;

    vector tile[R][C] = {};
    for (index_t d = 0; d < dim; ++d) {
        vector key[C];
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) key[c] = load<S>(k + d * S::panel_keys + c * W);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const vector query = q[d * R + r] - vector{};
#pragma GCC unroll 3
            for (int c = 0; c < C; ++c) tile[r][c] += query * key[c];
        }
    }

    vector lane;
    count_up<S>(lane);
    vector excess = std::numeric_limits<A>::lowest() - vector{};
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        const vector base = reference[r] - vector{};
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) {
            vector score = tile[r][c];
            if constexpr (Masked) {
                // Bit by bit: of two nested ?: g++ 12 makes scalar code.
                using bits = typename S::bits;
                const vector j = lane + (static_cast<A>(c * W) - vector{});
                const bits seen = (bits)(j >= (first[r] - vector{})) & (bits)(j < (last[r] - vector{}));
                const vector hidden = -std::numeric_limits<A>::infinity() - vector{};
                score = (vector)(((bits)score & seen) | ((bits)hidden & ~seen));
            }
            store<S>(x + r * block_keys + c * W) = score;
            // The order of the operands keeps a NaN from hiding the score of another row.
            const vector over = score - base;
            excess = over > excess ? over : excess;
        }
    }
    return any_above<S>(excess, static_cast<A>(lazy_threshold));
}

/// Gives the rows of a group whose scores exceed their reference by too much a new one: their maximum in the panel.
/// x: the panel's scores. weights: what is already in p of the current block, `done` keys, rows block_keys apart.
/// Touches only rows that need it, so that a row does not depend on its neighbours.
template <class S>
[[gnu::always_inline]] inline void raise_reference(const typename S::value_type* x, typename S::value_type* weights,
                                                   index_t done, typename S::value_type* reference,
                                                   typename S::value_type* sums, typename S::value_type* acc,
                                                   index_t columns) {
    using A = typename S::value_type;
    using vector = typename S::vector;
    constexpr int W = S::lanes;
    for (index_t r = 0; r < S::score_rows; ++r) {
        A top = reference[r];
        for (index_t j = 0; j < S::panel_keys; ++j) top = std::max(top, x[r * block_keys + j]);
        if (!(top - reference[r] > static_cast<A>(lazy_threshold))) continue;
        const vector shrink = std::exp2(reference[r] - top) - vector{};
        reference[r] = top;
        store<S>(sums + r * W) *= shrink;
        for (index_t j = 0; j < done; j += W) store<S>(weights + r * block_keys + j) *= shrink;
        for (index_t d = 0; d < columns; d += W) store<S>(acc + r * columns + d) *= shrink;
    }
}

/// Scores become weights, x = exp2(x - reference), and are added to the rows' sums.
template <class S>
[[gnu::always_inline]] inline void weigh_panel(typename S::value_type* x, const typename S::value_type* reference,
                                               typename S::value_type* sums) {
    using vector = typename S::vector;
    constexpr int W = S::lanes;
#pragma GCC unroll 2
    for (int r = 0; r < S::score_rows; ++r) {
        const vector base = reference[r] - vector{};
        vector w0 = load<S>(x + r * block_keys), w1 = load<S>(x + r * block_keys + W),
               w2 = load<S>(x + r * block_keys + 2 * W);
        w0 -= base, w1 -= base, w2 -= base;
        exp2_in_place<S>(w0);
        exp2_in_place<S>(w1);
        exp2_in_place<S>(w2);
        store<S>(x + r * block_keys) = w0;
        store<S>(x + r * block_keys + W) = w1;
        store<S>(x + r * block_keys + 2 * W) = w2;
        w0 += w1;
        w0 += w2;
        store<S>(sums + r * W) += w0;
    }
}

/// acc[r][.] += sum_j p[r][j] v[j][.] for 6 rows and `Vectors` vectors of columns, one key after the other: how keys
/// are grouped into calls does not change a bit.
template <class S, int Vectors>
[[gnu::always_inline]] inline void add_values(const typename S::value_type* p, const typename S::value_type* v,
                                              index_t keys, index_t columns, typename S::value_type* acc) {
    using vector = typename S::vector;
    constexpr int R = S::value_rows, W = S::lanes;
    vector tile[R][Vectors];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) tile[r][c] = load<S>(acc + r * columns + c * W);
    for (index_t j = 0; j < keys; ++j) {
        vector value[Vectors];
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) value[c] = load<S>(v + j * columns + c * W);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
            const vector weight = p[r * block_keys + j] - vector{};
#pragma GCC unroll 4
            for (int c = 0; c < Vectors; ++c) tile[r][c] += weight * value[c];
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) store<S>(acc + r * columns + c * W) = tile[r][c];
}

/// add_values for all rows of the tile, `Vectors` vectors of columns from column `at`.
template <class S, int Vectors>
[[gnu::always_inline]] inline void add_columns(const tile<typename S::value_type>& t, const typename S::value_type* p,
                                               const typename S::value_type* v, index_t keys, index_t at) {
    for (index_t r = 0; r < t.rows; r += S::value_rows)
        add_values<S, Vectors>(p + r * block_keys, v + at, keys, t.columns, t.acc + r * t.columns + at);
}

/// acc += p v for `keys` keys. p: [tile_rows][block_keys] from the first of them on, v: [keys][columns].
template <class S>
[[gnu::always_inline]] inline void add_keys(const tile<typename S::value_type>& t, const typename S::value_type* p,
                                            const typename S::value_type* v, index_t keys) {
    constexpr index_t W = S::lanes, most = S::value_vectors * W;
    index_t at = 0;
    for (; at + most <= t.columns; at += most) add_columns<S, S::value_vectors>(t, p, v, keys, at);
    const index_t left = (t.columns - at) / W;
    if constexpr (S::value_vectors > 3) {
        if (left == 3) add_columns<S, 3>(t, p, v, keys, at);
    }
    if constexpr (S::value_vectors > 2) {
        if (left == 2) add_columns<S, 2>(t, p, v, keys, at);
    }
    if (left == 1) add_columns<S, 1>(t, p, v, keys, at);
}

/// add_keys for a masked panel in which some v is not finite: what a row does not see must not be multiplied even by
/// zero. The same operations in the same order for what it sees.
template <class S>
[[gnu::always_inline]] inline void add_visible_keys(const tile<typename S::value_type>& t,
                                                    const typename S::value_type* p, const typename S::value_type* v,
                                                    index_t first_of_panel) {
    using vector = typename S::vector;
    for (index_t r = 0; r < t.rows; ++r) {
        const index_t begin = std::max(t.first[r] - first_of_panel, index_t{0});
        const index_t end = std::min(t.last[r] - first_of_panel, index_t{S::panel_keys});
        for (index_t j = begin; j < end; ++j) {
            const vector weight = p[r * block_keys + j] - vector{};
            for (index_t d = 0; d < t.columns; d += S::lanes)
                store<S>(t.acc + r * t.columns + d) += weight * load<S>(v + j * t.columns + d);
        }
    }
}

/// Folds panels of keys into a tile: the online softmax of FlashAttention (Dao et al. 2022, arXiv:2205.14135) with a
/// reference that follows the maximum lazily.
///
/// Blocks of keys are counted from the run's first panel and not from the first one that this tile sees, and a panel
/// that is computed under a mask adds zeros: so a row gets the same bits whatever its neighbours see.
template <class Target, class A>
[[gnu::always_inline]] inline void fold_panels(const tile<A>& t, const stretch<A>& s) {
    using S = typename Target::template simd_of<A>;
    constexpr index_t R = S::score_rows, keys = S::panel_keys, panels = block_keys / keys;
    static_assert(block_keys % keys == 0 && tile_rows % R == 0 && tile_rows % S::value_rows == 0);
    A first[R], last[R];

    for (index_t p0 = s.begin; p0 < s.end;) {
        const index_t block = p0 / panels * panels, p1 = std::min(block + panels, s.end);
        bool hide_values = false;
        for (index_t panel = p0; panel < p1; ++panel) {
            const bool masked = panel < s.full_begin || panel >= s.full_end;
            hide_values |= masked && s.tainted[panel] != 0;
            const A* k = s.k + panel * keys * t.dim;
            A* p = t.p + (panel - block) * keys;
            for (index_t r = 0; r < t.rows; r += R) {
                const A* q = t.q + r * t.dim;
                A* x = p + r * block_keys;
                bool raise;
                if (masked) {
                    for (index_t i = 0; i < R; ++i) {
                        first[i] = static_cast<A>(std::clamp(t.first[r + i] - panel * keys, index_t{0}, keys));
                        last[i] = static_cast<A>(std::clamp(t.last[r + i] - panel * keys, index_t{0}, keys));
                    }
                    raise = score_panel<S, true>(q, k, t.dim, x, t.reference + r, first, last);
                } else {
                    raise = score_panel<S, false>(q, k, t.dim, x, t.reference + r, first, last);
                }
                if (raise)
                    Target::raise(x, t.p + r * block_keys + (p0 - block) * keys, (panel - p0) * keys, t.reference + r,
                                  t.sums + r * S::lanes, t.acc + r * t.columns, t.columns);
                weigh_panel<S>(x, t.reference + r, t.sums + r * S::lanes);
            }
        }

        if (!hide_values) {
            const index_t begin = std::max(p0 * keys, s.first_key), end = std::min(p1 * keys, s.last_key);
            add_keys<S>(t, t.p + (begin - block * keys), s.v + begin * t.columns, end - begin);
        } else {
            for (index_t panel = p0; panel < p1; ++panel) {
                const A* p = t.p + (panel - block) * keys;
                const A* v = s.v + panel * keys * t.columns;
                if ((panel < s.full_begin || panel >= s.full_end) && s.tainted[panel] != 0)
                    add_visible_keys<S>(t, p, v, panel * keys);
                else
                    add_keys<S>(t, p, v, keys);
            }
        }
        p0 = p1;
    }
}

} // namespace seqpar::flash_detail
