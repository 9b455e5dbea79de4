#pragma once

#include <seqpar/kernel/flash/exp2.hpp>
#include <seqpar/kernel/flash/gradient_tile.hpp>
#include <seqpar/kernel/flash/simd.hpp>

#include <algorithm>

namespace seqpar::flash_detail {

/// tile[r][j] = sum_d rows[r][d] panel[d][j] for score_rows rows, `columns` apart, and the keys of a panel.
template <class S>
[[gnu::always_inline]] inline void multiply_panel(const typename S::value_type* rows, index_t columns,
                                                  const typename S::value_type* panel, index_t dim,
                                                  typename S::vector (&tile)[S::score_rows][S::score_vectors]) {
    using vector = typename S::vector;
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) tile[r][c] = vector{};
    for (index_t d = 0; d < dim; ++d) {
        vector key[C];
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) key[c] = load<S>(panel + d * S::panel_keys + c * W);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const vector row = rows[r * columns + d] - vector{};
#pragma GCC unroll 3
            for (int c = 0; c < C; ++c) tile[r][c] += row * key[c];
        }
    }
}

/// All bits set where first <= j < last, j the lanes from `from` on.
template <class S>
[[gnu::always_inline]] inline void lanes_between(int from, typename S::value_type first, typename S::value_type last,
                                                 typename S::bits& seen) {
    using vector = typename S::vector;
    using bits = typename S::bits;
    vector lane;
    count_up<S>(lane);
    const vector j = lane + (static_cast<typename S::value_type>(from) - vector{});
    seen = (bits)(j >= (first - vector{})) & (bits)(j < (last - vector{}));
}

/// P of a group of rows with a panel of keys: p[r][j] = exp2(q_r . k_j - lse_r), 0 where `Masked` and not first[r] <= j
/// < last[r], whatever q, k and lse are there.
template <class S, bool Masked>
[[gnu::always_inline]] inline void weights_again(const typename S::value_type* q, index_t columns,
                                                 const typename S::value_type* k, index_t dim,
                                                 const typename S::value_type* lse, const typename S::value_type* first,
                                                 const typename S::value_type* last, typename S::value_type* p) {
    using vector = typename S::vector;
    using bits = typename S::bits;
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;
    {
        vector tile[R][C];
        multiply_panel<S>(q, columns, k, dim, tile);
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
    multiply_panel<S>(dout, columns, v, dim, tile);
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

/// to[a][.] += sum_t w[a * EveryA + t * EveryT] x[t][.] for 6 a, `count` t and `Vectors` vectors of columns.
template <class S, int Vectors, index_t EveryA, index_t EveryT>
[[gnu::always_inline]] inline void add_weighted(const typename S::value_type* w, const typename S::value_type* x,
                                                index_t count, index_t columns, typename S::value_type* to) {
    using vector = typename S::vector;
    constexpr int R = S::value_rows, W = S::lanes;
    vector tile[R][Vectors];
#pragma GCC unroll 6
    for (int a = 0; a < R; ++a)
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) tile[a][c] = load<S>(to + a * columns + c * W);
    for (index_t t = 0; t < count; ++t) {
        vector value[Vectors];
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) value[c] = load<S>(x + t * columns + c * W);
#pragma GCC unroll 6
        for (int a = 0; a < R; ++a) {
            const vector weight = w[a * EveryA + t * EveryT] - vector{};
#pragma GCC unroll 4
            for (int c = 0; c < Vectors; ++c) tile[a][c] += weight * value[c];
        }
    }
#pragma GCC unroll 6
    for (int a = 0; a < R; ++a)
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) store<S>(to + a * columns + c * W) = tile[a][c];
}

template <class S, int Vectors, index_t EveryA, index_t EveryT>
[[gnu::always_inline]] inline void
add_weighted_columns(const typename S::value_type* w, const typename S::value_type* x, index_t count, index_t columns,
                     typename S::value_type* to, index_t begin, index_t end, index_t at) {
    for (index_t a = begin; a < end; a += S::value_rows)
        add_weighted<S, Vectors, EveryA, EveryT>(w + a * EveryA, x + at, count, columns, to + a * columns + at);
}

/// to[a][.] += sum_t w[a * EveryA + t * EveryT] x[t][.] for a in [begin, end), rounded up to 6, and all columns.
template <class S, index_t EveryA, index_t EveryT>
[[gnu::always_inline]] inline void add_product(const typename S::value_type* w, const typename S::value_type* x,
                                               index_t count, index_t columns, typename S::value_type* to,
                                               index_t begin, index_t end) {
    constexpr index_t W = S::lanes, most = S::value_vectors * W;
    index_t at = 0;
    for (; at + most <= columns; at += most)
        add_weighted_columns<S, S::value_vectors, EveryA, EveryT>(w, x, count, columns, to, begin, end, at);
    const index_t left = (columns - at) / W;
    if constexpr (S::value_vectors > 3) {
        if (left == 3) add_weighted_columns<S, 3, EveryA, EveryT>(w, x, count, columns, to, begin, end, at);
    }
    if constexpr (S::value_vectors > 2) {
        if (left == 2) add_weighted_columns<S, 2, EveryA, EveryT>(w, x, count, columns, to, begin, end, at);
    }
    if (left == 1) add_weighted_columns<S, 1, EveryA, EveryT>(w, x, count, columns, to, begin, end, at);
}

/// to[.] += w x[.], a whole row of columns.
template <class S>
[[gnu::always_inline]] inline void add_row(typename S::value_type w, const typename S::value_type* x, index_t columns,
                                           typename S::value_type* to) {
    using vector = typename S::vector;
    const vector weight = w - vector{};
    for (index_t d = 0; d < columns; d += S::lanes) store<S>(to + d) += weight * load<S>(x + d);
}

/// P and dS of a tile, and what they add to dk and dv: the first four of the five products of FlashAttention-2's
/// backward (Dao 2023, arXiv:2307.08691, algorithm 2). A key's sums run over the rows in their order.
template <class Target, class A>
[[gnu::always_inline]] inline void add_key_gradients(const gradient_tile<A>& t) {
    using S = typename Target::template simd_of<A>;
    constexpr index_t R = S::score_rows, keys = S::panel_keys, six = S::value_rows;
    static_assert(gradient_keys % keys == 0 && keys % six == 0 && gradient_rows % R == 0 && gradient_rows % six == 0);
    A first[R] = {}, last[R] = {};
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
                for (index_t i = 0; i < R; ++i) {
                    first[i] = static_cast<A>(std::clamp(t.first[r + i] - panel * keys, index_t{0}, keys));
                    last[i] = static_cast<A>(std::clamp(t.last[r + i] - panel * keys, index_t{0}, keys));
                }
                weights_again<S, true>(q, t.k_columns, k, t.dim, t.lse + r, first, last, p);
                score_gradients<S, true>(dout, t.v_columns, v, t.dim_v, t.delta + r, first, last, p, ds);
            } else {
                weights_again<S, false>(q, t.k_columns, k, t.dim, t.lse + r, first, last, p);
                score_gradients<S, false>(dout, t.v_columns, v, t.dim_v, t.delta + r, first, last, p, ds);
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
                add_row<S>(t.p[r * gradient_keys + j], t.dout + r * t.v_columns, t.v_columns, t.dv + j * t.v_columns);
                add_row<S>(t.ds[r * gradient_keys + j], t.q + r * t.k_columns, t.k_columns, t.dk + j * t.k_columns);
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
                add_row<S>(t.ds[r * gradient_keys + j], t.k_rows + j * t.k_columns, t.k_columns,
                           t.dq + r * t.k_columns);
    }
}

} // namespace seqpar::flash_detail
