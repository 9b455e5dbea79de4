#pragma once

#include <seqpar/kernel/flash/exp2.hpp>
#include <seqpar/kernel/flash/packing.hpp>
#include <seqpar/kernel/flash/products.hpp>
#include <seqpar/kernel/flash/simd.hpp>
#include <seqpar/kernel/flash/tile.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace seqpar::flash_detail {

/// Scores of a group of rows with the first C vectors of keys of a panel go to memory: x[r][j], -inf where `Masked` and not
/// first[r] <= j < last[r] and beyond these vectors, rows block_keys apart. Tells whether some row must raise its reference.
template <class S, bool Masked, int C>
[[gnu::always_inline]] inline bool store_scores(const typename S::vector (&tile)[S::score_rows][C],
                                                typename S::value_type* x, const typename S::value_type* reference,
                                                const typename S::value_type* first,
                                                const typename S::value_type* last) {
    using A = typename S::value_type;
    using vector = typename S::vector;
    constexpr int R = S::score_rows, W = S::lanes;
    const vector hidden = -std::numeric_limits<A>::infinity() - vector{};
    vector excess[C]; // apart: one chain of maxima would take longer than the products
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) excess[c] = std::numeric_limits<A>::lowest() - vector{};
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        const vector base = reference[r] - vector{};
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) {
            vector score = tile[r][c];
            if constexpr (Masked) {
                // Bit by bit: of two nested ?: g++ 12 makes scalar code.
                using bits = typename S::bits;
                bits seen;
                lanes_between<S>(c * W, first[r], last[r], seen);
                score = (vector)(((bits)score & seen) | ((bits)hidden & ~seen));
            }
            store<S>(x + r * block_keys + c * W) = score;
            // The order of the operands keeps a NaN from hiding the score of another row.
            const vector over = score - base;
            excess[c] = over > excess[c] ? over : excess[c];
        }
#pragma GCC unroll 3
        for (int c = C; c < S::score_vectors; ++c) store<S>(x + r * block_keys + c * W) = hidden;
    }
#pragma GCC unroll 3
    for (int c = 1; c < C; ++c) excess[0] = excess[c] > excess[0] ? excess[c] : excess[0];
    return any_above<S>(excess[0], static_cast<A>(lazy_threshold));
}

/// x[r][j] = q_r . k_j for the first C vectors of keys of a panel. q: rows `columns` apart, k: [dim][panel_keys].
template <class S, bool Masked, int C = S::score_vectors>
[[gnu::always_inline]] inline bool
score_panel(const typename S::value_type* q, index_t columns, const typename S::value_type* k, index_t dim,
            typename S::value_type* x, const typename S::value_type* reference, const typename S::value_type* first,
            const typename S::value_type* last) {
    typename S::vector tile[S::score_rows][C];
    multiply_panel<S>(q, columns, 1, k, dim, tile);
    return store_scores<S, Masked>(tile, x, reference, first, last);
}

/// The same of a panel that is masked: no products with keys that lie beyond all that is seen.
template <class S>
[[gnu::always_inline]] inline bool
score_seen_panel(int vectors, const typename S::value_type* q, index_t columns, const typename S::value_type* k,
                 index_t dim, typename S::value_type* x, const typename S::value_type* reference,
                 const typename S::value_type* first, const typename S::value_type* last) {
    if (vectors == 1) return score_panel<S, true, 1>(q, columns, k, dim, x, reference, first, last);
    if (vectors == 2) return score_panel<S, true, 2>(q, columns, k, dim, x, reference, first, last);
    return score_panel<S, true, 3>(q, columns, k, dim, x, reference, first, last);
}

/// The same of what the score has made of them, in x, as exponents of e: they become exponents of 2.
template <class S>
[[gnu::always_inline]] inline bool rescale_panel(typename S::value_type* x, const typename S::value_type* reference,
                                                 const typename S::value_type* first,
                                                 const typename S::value_type* last) {
    using A = typename S::value_type;
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;
    typename S::vector tile[R][C];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) tile[r][c] = load<S>(x + r * block_keys + c * W) * std::numbers::log2e_v<A>;
    return store_scores<S, true>(tile, x, reference, first, last);
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
        vector top = reference[r] - vector{};
#pragma GCC unroll 3
        for (int c = 0; c < S::score_vectors; ++c) {
            const vector score = load<S>(x + r * block_keys + c * W);
            top = score > top ? score : top;
        }
        largest_lane<S>(top);
        const A before = reference[r], now = top[0];
        if (!(now - before > static_cast<A>(lazy_threshold))) continue;
        reference[r] = now;
        if (before == std::numeric_limits<A>::lowest()) continue; // has no weight yet
        vector shrink = (before - now) - vector{};
        exp2_in_place<S>(shrink);
        store<S>(sums + r * W) *= shrink;
        for (index_t j = 0; j < done; j += W) store<S>(weights + r * block_keys + j) *= shrink;
        for (index_t d = 0; d < columns; d += W) store<S>(acc + r * columns + d) *= shrink;
    }
}

/// Scores become weights, x = exp2(x - reference), and are added to the rows' sums: C vectors of a row, the others are 0.
template <class S, int C>
[[gnu::always_inline]] inline void weigh_vectors(typename S::value_type* x, const typename S::value_type* reference,
                                                 typename S::value_type* sums) {
    using vector = typename S::vector;
    constexpr int W = S::lanes;
#pragma GCC unroll 2
    for (int r = 0; r < S::score_rows; ++r) {
        const vector base = reference[r] - vector{};
        vector w[C];
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) w[c] = load<S>(x + r * block_keys + c * W) - base;
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) exp2_in_place<S>(w[c]);
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) store<S>(x + r * block_keys + c * W) = w[c];
#pragma GCC unroll 3
        for (int c = C; c < S::score_vectors; ++c) store<S>(x + r * block_keys + c * W) = vector{};
#pragma GCC unroll 3
        for (int c = 1; c < C; ++c) w[0] += w[c];
        store<S>(sums + r * W) += w[0];
    }
}

/// A panel whose scores wait for their weights.
template <class A>
struct scored_panel {
    A* x = nullptr; ///< null: none does
    index_t row = 0;
    int vectors = 0; ///< that some row sees
};

template <class S, class A>
[[gnu::always_inline]] inline void weigh_panel(const scored_panel<A>& p, const tile<A>& t) {
    if (p.x == nullptr) return;
    const A* const reference = t.reference + p.row;
    A* const sums = t.sums + p.row * S::lanes;
    if (p.vectors == 1) return weigh_vectors<S, 1>(p.x, reference, sums);
    if (p.vectors == 2) return weigh_vectors<S, 2>(p.x, reference, sums);
    weigh_vectors<S, 3>(p.x, reference, sums);
}

/// acc += p v for a panel in which some v is not finite: what a row does not see must not be multiplied even by zero,
/// nor, where the score `Changes` values, what has no weight. The same operations in the same order for the others.
template <class S, bool Changes>
[[gnu::always_inline]] inline void add_visible_keys(const tile<typename S::value_type>& t,
                                                    const typename S::value_type* p, const typename S::value_type* v,
                                                    index_t v_step, index_t first_of_panel) {
    for (index_t r = 0; r < t.rows; ++r) {
        const index_t begin = std::max(t.first[r] - first_of_panel, index_t{0});
        const index_t end = std::min(t.last[r] - first_of_panel, index_t{S::panel_keys});
        for (index_t j = begin; j < end; ++j) {
            const typename S::value_type weight = p[r * block_keys + j];
            if (Changes && weight == 0) continue;
            add_row<S>(weight, v + j * v_step, t.columns, t.acc + r * t.columns);
        }
    }
}

/// What a row sees of the keys of panels [p0, p1), as keys of the run.
template <class S>
[[nodiscard]] [[gnu::always_inline]] inline interval seen_of_panels(const tile<typename S::value_type>& t, index_t row,
                                                                    index_t p0, index_t p1) {
    return {std::max(t.first[row], p0 * S::panel_keys), std::min(t.last[row], p1 * S::panel_keys)};
}

/// The scores of panels [p0, p1), as exponents of e, where the score changes values. p: that of key `base` of the run.
template <class S>
[[gnu::always_inline]] inline void change_scores(const tile<typename S::value_type>& t,
                                                 const stretch<typename S::value_type>& s, index_t p0, index_t p1,
                                                 index_t base) {
    constexpr index_t R = S::score_rows, keys = S::panel_keys;
    for (index_t panel = p0; panel < p1; ++panel)
        for (index_t r = 0; r < t.rows; r += R)
            store_products<S>(t.q + r * t.q_columns, t.q_columns, 1, s.k + (panel - s.base) * keys * t.dim, t.dim,
                              t.p + r * block_keys + panel * keys - base, block_keys);
    for (index_t r = 0; r < t.rows; ++r) {
        const interval seen = seen_of_panels<S>(t, r, p0, p1);
        if (!seen.empty())
            t.changes->modify(r, seen.first, seen.last, t.p + r * block_keys + seen.first - base, nullptr);
    }
}

/// Multiplies the weights of panels [p0, p1), which are in the sums by now, by what the score drops or keeps of them.
template <class S>
[[gnu::always_inline]] inline void drop_weights(const tile<typename S::value_type>& t, index_t p0, index_t p1,
                                                index_t base) {
    using A = typename S::value_type;
    A z[block_keys];
    for (index_t r = 0; r < t.rows; ++r) {
        const interval seen = seen_of_panels<S>(t, r, p0, p1);
        if (seen.empty()) continue;
        t.changes->drop(r, seen.first, seen.last, z);
        A* p = t.p + r * block_keys + seen.first - base;
        for (index_t j = 0; j < seen.last - seen.first; ++j) p[j] *= z[j];
    }
}

/// acc += p v for panels [p0, p1), each register tile of rows with the keys that some of its rows see.
template <class S>
[[gnu::always_inline]] inline void add_seen_values(const tile<typename S::value_type>& t,
                                                   const stretch<typename S::value_type>& s, index_t p0, index_t p1,
                                                   index_t base) {
    for (index_t r = 0; r < t.rows; r += S::value_rows) {
        interval seen{p1 * S::panel_keys, p0 * S::panel_keys};
        for (index_t i = r; i < std::min(r + S::value_rows, t.rows); ++i) {
            const interval row = seen_of_panels<S>(t, i, p0, p1);
            if (row.empty()) continue;
            seen.first = std::min(seen.first, row.first);
            seen.last = std::max(seen.last, row.last);
        }
        if (!seen.empty())
            add_product<S, S::value_rows, S::value_vectors, block_keys, 1>(
                t.p + (seen.first - base), s.v + (seen.first - s.base * S::panel_keys) * s.v_step, s.v_step,
                seen.last - seen.first, t.columns, t.acc, r, std::min(r + S::value_rows, t.rows));
    }
}

/// Folds panels of keys into a tile: the online softmax of FlashAttention (Dao et al. 2022, arXiv:2205.14135) with a
/// reference that follows the maximum lazily.
///
/// Blocks of keys are counted from the run's first panel and not from the first one that this tile sees, and a panel
/// that is computed under a mask adds zeros: so a row gets the same bits whatever its neighbours see. Where the score
/// `Changes` values, all panels are masked.
template <class Target, bool Changes, class A>
[[gnu::always_inline]] inline void fold_panels(const tile<A>& t, const stretch<A>& s) {
    using S = typename Target::template simd_of<A>;
    constexpr index_t R = S::score_rows, keys = S::panel_keys, panels = block_keys / keys;
    static_assert(block_keys % keys == 0 && least_tile_rows % R == 0 && least_tile_rows % S::value_rows == 0);
    A first[R], last[R];

    for (index_t p0 = s.begin; p0 < s.end;) {
        const index_t block = p0 / panels * panels, p1 = std::min(block + panels, s.end);
        bool hide_values = false;
        if constexpr (Changes) change_scores<S>(t, s, p0, p1, block * keys);
        // The scores of a group are weighed while the products of the next one run.
        scored_panel<A> ready;
        for (index_t panel = p0; panel < p1; ++panel) {
            const bool masked = Changes || panel < s.full_begin || panel >= s.full_end;
            hide_values |= masked && s.tainted[panel - s.base] != 0;
            const A* k = s.k + (panel - s.base) * keys * t.dim;
            A* p = t.p + (panel - block) * keys;
            for (index_t r = 0; r < t.rows; r += R) {
                const A* q = t.q + r * t.q_columns;
                A* x = p + r * block_keys;
                bool raise;
                int vectors = S::score_vectors;
                if (masked) {
                    const index_t seen = look_at_panel<S>(t.first + r, t.last + r, panel * keys, first, last);
                    if (seen == 0) {
                        fill_rows<S>(x, block_keys); // weights of nothing
                        continue;
                    }
                    vectors = static_cast<int>((seen + S::lanes - 1) / S::lanes);
                    if constexpr (Changes)
                        raise = rescale_panel<S>(x, t.reference + r, first, last);
                    else
                        raise = score_seen_panel<S>(vectors, q, t.q_columns, k, t.dim, x, t.reference + r, first, last);
                } else {
                    raise = score_panel<S, false>(q, t.q_columns, k, t.dim, x, t.reference + r, first, last);
                }
                weigh_panel<S>(ready, t);
                if (raise)
                    Target::raise(x, t.p + r * block_keys + (p0 - block) * keys, (panel - p0) * keys, t.reference + r,
                                  t.sums + r * S::lanes, t.acc + r * t.columns, t.columns);
                ready = {x, r, vectors};
            }
        }
        weigh_panel<S>(ready, t);

        if constexpr (Changes) {
            if (t.changes->drops) drop_weights<S>(t, p0, p1, block * keys);
        }
        if (!hide_values && (Changes || p0 < s.full_begin || p1 > s.full_end)) {
            add_seen_values<S>(t, s, p0, p1, block * keys);
        } else if (!hide_values) {
            const index_t begin = std::max(p0 * keys, s.first_key), end = std::min(p1 * keys, s.last_key);
            const A* p = t.p + (begin - block * keys);
            const A* v = s.v + (begin - s.base * keys) * s.v_step;
            add_product<S, S::value_rows, S::value_vectors, block_keys, 1>(p, v, s.v_step, end - begin, t.columns,
                                                                           t.acc, 0, t.rows);
        } else {
            for (index_t panel = p0; panel < p1; ++panel) {
                const A* p = t.p + (panel - block) * keys;
                const A* v = s.v + (panel - s.base) * keys * s.v_step;
                if ((Changes || panel < s.full_begin || panel >= s.full_end) && s.tainted[panel - s.base] != 0)
                    add_visible_keys<S, Changes>(t, p, v, s.v_step, panel * keys);
                else
                    add_product<S, S::value_rows, S::value_vectors, block_keys, 1>(p, v, s.v_step, keys, t.columns,
                                                                                   t.acc, 0, t.rows);
            }
        }
        p0 = p1;
    }
}

} // namespace seqpar::flash_detail
