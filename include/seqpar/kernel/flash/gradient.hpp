#pragma once

#include <seqpar/kernel/flash/exp2.hpp>
#include <seqpar/kernel/flash/gradient_tile.hpp>
#include <seqpar/kernel/flash/products.hpp>
#include <seqpar/kernel/flash/simd.hpp>

#include <algorithm>
#include <limits>
#include <numbers>

namespace seqpar::flash_detail {

/// P of a group of rows with a panel of keys: p[r][j] = exp2(q_r . k_j - lse_r), 0 where `Masked` and not first[r] <= j
/// < last[r], whatever q, k and lse are there.
template <class S, bool Masked, class Ahead>
[[gnu::always_inline]] inline void
weights_again(const typename S::value_type* q, index_t columns, const typename S::value_type* k, index_t dim,
              const typename S::value_type* lse, const typename S::value_type* first,
              const typename S::value_type* last, typename S::value_type* p, Ahead&& ahead) {
    using vector = typename S::vector;
    using bits = typename S::bits;
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;
    {
        vector tile[R][C];
        multiply_panel<S>(q, columns, 1, k, dim, tile, ahead);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
            for (int c = 0; c < C; ++c) store<S>(p + r * gradient_keys + c * W) = tile[r][c] - (lse[r] - vector{});
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
        vector w[C];
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) w[c] = load<S>(p + r * gradient_keys + c * W);
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) exp2_in_place<S>(w[c]);
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) {
            if constexpr (Masked) {
                bits seen;
                lanes_between<S>(c * W, first[r], last[r], seen);
                w[c] = (vector)((bits)w[c] & seen);
            }
            store<S>(p + r * gradient_keys + c * W) = w[c];
        }
    }
}

/// ds[r][j] = p[r][j] (dout_r . v_j - delta_r), 0 where p is masked.
template <class S, bool Masked>
[[gnu::always_inline]] inline void
score_gradients(const typename S::value_type* dout, index_t columns, const typename S::value_type* v, index_t dim,
                const typename S::value_type* delta, const typename S::value_type* first,
                const typename S::value_type* last, const typename S::value_type* p, typename S::value_type* ds) {
    using vector = typename S::vector;
    using bits = typename S::bits;
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;
    vector tile[R][C];
    multiply_panel<S>(dout, columns, 1, v, dim, tile);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) {
            vector gradient = load<S>(p + r * gradient_keys + c * W) * (tile[r][c] - (delta[r] - vector{}));
            if constexpr (Masked) {
                bits seen;
                lanes_between<S>(c * W, first[r], last[r], seen);
                gradient = (vector)((bits)gradient & seen);
            }
            store<S>(ds + r * gradient_keys + c * W) = gradient;
        }
}

/// P = exp2(log2 e x - lse) of a group of rows with a panel of keys, in place of x: 0 where not first[r] <= j < last[r] or
/// the score has hidden the key, whatever lse is there.
template <class S>
[[gnu::always_inline]] inline void changed_weights(const typename S::value_type* lse,
                                                   const typename S::value_type* first,
                                                   const typename S::value_type* last, typename S::value_type* p) {
    using A = typename S::value_type;
    using vector = typename S::vector;
    using bits = typename S::bits;
    for (int r = 0; r < S::score_rows; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < S::score_vectors; ++c) {
            const vector x = load<S>(p + r * gradient_keys + c * S::lanes);
            bits seen;
            lanes_between<S>(c * S::lanes, first[r], last[r], seen);
            seen &= ~(bits)(x == (-std::numeric_limits<A>::infinity() - vector{}));
            vector w = x * std::numbers::log2e_v<A> - (lse[r] - vector{});
            exp2_in_place<S>(w);
            store<S>(p + r * gradient_keys + c * S::lanes) = (vector)((bits)w & seen);
        }
}

/// ds[r][j] = p[r][j] (z[r][j] dout_r . v_j - delta_r), 0 where p or z is 0 and what it multiplies is not finite.
template <class S>
[[gnu::always_inline]] inline void
changed_gradients(const typename S::value_type* dout, index_t columns, const typename S::value_type* v, index_t dim,
                  const typename S::value_type* delta, const typename S::value_type* z, const typename S::value_type* p,
                  typename S::value_type* ds) {
    using vector = typename S::vector;
    using bits = typename S::bits;
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;
    vector tile[R][C];
    multiply_panel<S>(dout, columns, 1, v, dim, tile);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) {
            const vector kept = load<S>(z + r * gradient_keys + c * W), w = load<S>(p + r * gradient_keys + c * W);
            const vector dp = (vector)((bits)(kept * tile[r][c]) & (bits)(kept != vector{}));
            const vector gradient = w * (dp - (delta[r] - vector{}));
            store<S>(ds + r * gradient_keys + c * W) = (vector)((bits)gradient & (bits)(w != vector{}));
        }
}

/// P, times z, and dS, times the derivative of the score, of a group of rows from `row` with all keys, where the score
/// changes values.
template <class S>
[[gnu::always_inline]] inline void change_gradients(const gradient_tile<typename S::value_type>& t, index_t row) {
    using A = typename S::value_type;
    using vector = typename S::vector;
    using bits = typename S::bits;
    constexpr index_t R = S::score_rows, keys = S::panel_keys;
    alignas(64) A slope[R * gradient_keys], z[R * gradient_keys];
    A first[R], last[R];
    A* const p = t.p + row * gradient_keys;
    A* const ds = t.ds + row * gradient_keys;
    const index_t real = std::min(R, t.rows - row), begin = t.first_key / keys * keys,
                  end = (t.last_key + keys - 1) / keys * keys;

    for (index_t j = begin; j < end; j += keys)
        store_products<S>(t.q + row * t.k_columns, t.k_columns, 1, t.k + j * t.dim, t.dim, p + j, gradient_keys);
    std::fill_n(slope, R * gradient_keys, A{1});
    std::fill_n(z, R * gradient_keys, A{1});
    for (index_t r = 0; r < real; ++r) {
        const index_t from = t.first[row + r], to = t.last[row + r], at = r * gradient_keys + from;
        if (from >= to) continue;
        t.changes->modify(row + r, from, to, p + at, slope + at);
        if (t.changes->drops) t.changes->drop(row + r, from, to, z + at);
    }
    for (index_t j = begin; j < end; j += keys) {
        look_at_panel<S>(t.first + row, t.last + row, j, first, last);
        changed_weights<S>(t.lse + row, first, last, p + j);
        changed_gradients<S>(t.dout + row * t.v_columns, t.v_columns, t.v + j * t.dim_v, t.dim_v, t.delta + row, z + j,
                             p + j, ds + j);
    }
    if (t.changes->slopes)
        for (index_t r = 0; r < real; ++r) {
            const index_t from = t.first[row + r], to = t.last[row + r];
            t.slopes[row + r] =
                from < to ? t.changes->slope_gradient(row + r, from, to, ds + r * gradient_keys + from) : 0;
        }
    for (index_t r = 0; r < R; ++r)
        for (index_t j = begin; j < end; j += S::lanes) {
            const index_t at = r * gradient_keys + j;
            const vector w = load<S>(p + at), kept = load<S>(z + at);
            // A key without weight may have any derivative, and one that is dropped any weight.
            const vector gradient = load<S>(ds + at) * load<S>(slope + at);
            store<S>(ds + at) = (vector)((bits)gradient & (bits)(w != vector{}));
            store<S>(p + at) = (vector)((bits)(w * kept) & (bits)(kept != vector{}));
        }
}

/// to += w x, less where the score changes values and there is no weight, so that x, whatever it is, does not reach `to`.
template <class S>
[[gnu::always_inline]] inline void add_pair(const gradient_tile<typename S::value_type>& t, typename S::value_type w,
                                            const typename S::value_type* x, index_t columns,
                                            typename S::value_type* to) {
    if (t.changes == nullptr || w != 0) add_row<S>(w, x, columns, to);
}

/// P and dS of a tile, and what they add to dk and dv: the first four of the five products of FlashAttention-2's
/// backward (Dao 2023, arXiv:2307.08691, algorithm 2). A key's sums run over the rows in their order.
template <class Target, bool Changes, class A>
[[gnu::always_inline]] inline void add_key_gradients(const gradient_tile<A>& t) {
    using S = typename Target::template simd_of<A>;
    constexpr index_t R = S::score_rows, keys = S::panel_keys, six = S::value_rows;
    static_assert(gradient_keys % keys == 0 && keys % six == 0 && gradient_rows % R == 0 && gradient_rows % six == 0);
    if constexpr (Changes) {
        for (index_t r = 0; r < t.rows; r += R) change_gradients<S>(t, r);
    } else {
        A first[R] = {}, last[R] = {};
        data_to_come ahead = t.ahead;
        for (index_t panel = t.first_key / keys; panel * keys < t.last_key; ++panel) {
            const bool masked = panel < t.full_begin || panel >= t.full_end;
            const A* k = t.k + panel * keys * t.dim;
            const A* v = t.v + panel * keys * t.dim_v;
            for (index_t r = 0; r < t.rows; r += R) {
                const A* q = t.q + r * t.k_columns;
                const A* dout = t.dout + r * t.v_columns;
                A* p = t.p + r * gradient_keys + panel * keys;
                A* ds = t.ds + r * gradient_keys + panel * keys;
                if (masked) {
                    if (!look_at_panel<S>(t.first + r, t.last + r, panel * keys, first, last)) {
                        fill_rows<S>(p, gradient_keys);
                        fill_rows<S>(ds, gradient_keys);
                        continue;
                    }
                    weights_again<S, true>(q, t.k_columns, k, t.dim, t.lse + r, first, last, p, a_third_of{ahead});
                    score_gradients<S, true>(dout, t.v_columns, v, t.dim_v, t.delta + r, first, last, p, ds);
                } else {
                    weights_again<S, false>(q, t.k_columns, k, t.dim, t.lse + r, first, last, p, a_third_of{ahead});
                    score_gradients<S, false>(dout, t.v_columns, v, t.dim_v, t.delta + r, first, last, p, ds);
                }
            }
        }
    }

    if (!t.tainted) {
        const index_t begin = t.first_key / six * six;
        add_product<S, 1, gradient_keys>(t.p, t.dout, t.rows, t.v_columns, t.dv, begin, t.last_key);
        add_product<S, 1, gradient_keys>(t.ds, t.q, t.rows, t.k_columns, t.dk, begin, t.last_key);
    } else {
        // What is not seen must not be multiplied even by zero.
        for (index_t r = 0; r < t.rows; ++r)
            for (index_t j = t.first[r]; j < t.last[r]; ++j) {
                add_pair<S>(t, t.p[r * gradient_keys + j], t.dout + r * t.v_columns, t.v_columns,
                            t.dv + j * t.v_columns);
                add_pair<S>(t, t.ds[r * gradient_keys + j], t.q + r * t.k_columns, t.k_columns, t.dk + j * t.k_columns);
            }
    }
}

/// The fifth product: what dS adds to dq. A row's sum runs over the keys in their order.
template <class Target, class A>
[[gnu::always_inline]] inline void add_row_gradients(const gradient_tile<A>& t) {
    using S = typename Target::template simd_of<A>;
    if (!t.tainted) {
        add_product<S, gradient_keys, 1>(t.ds + t.first_key, t.k_rows + t.first_key * t.k_columns,
                                         t.last_key - t.first_key, t.k_columns, t.dq, 0, t.rows);
    } else {
        for (index_t r = 0; r < t.rows; ++r)
            for (index_t j = t.first[r]; j < t.last[r]; ++j)
                add_pair<S>(t, t.ds[r * gradient_keys + j], t.k_rows + j * t.k_columns, t.k_columns,
                            t.dq + r * t.k_columns);
    }
}

} // namespace seqpar::flash_detail
