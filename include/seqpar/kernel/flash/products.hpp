#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/simd.hpp>

namespace seqpar::flash_detail {

/// tile[r][j] = sum_d rows[r * row_step + d * dim_step] panel[d][j] for score_rows rows and the keys of a panel.
template <class S>
[[gnu::always_inline]] inline void multiply_panel(const typename S::value_type* rows, index_t row_step,
                                                  index_t dim_step, const typename S::value_type* panel, index_t dim,
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
            const vector row = rows[r * row_step + d * dim_step] - vector{};
#pragma GCC unroll 3
            for (int c = 0; c < C; ++c) tile[r][c] += row * key[c];
        }
    }
}

/// The same, to memory: x[r][j], rows x_step apart.
template <class S>
[[gnu::always_inline]] inline void store_products(const typename S::value_type* rows, index_t row_step,
                                                  index_t dim_step, const typename S::value_type* panel, index_t dim,
                                                  typename S::value_type* x, index_t x_step) {
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;
    typename S::vector tile[R][C];
    multiply_panel<S>(rows, row_step, dim_step, panel, dim, tile);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) store<S>(x + r * x_step + c * W) = tile[r][c];
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

/// to[a][.] += sum_t w[a * EveryA + t * EveryT] x[t][.] for 6 a, `count` t and `Vectors` vectors of columns, one t after
/// the other: how they are grouped into calls does not change a bit.
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

} // namespace seqpar::flash_detail
