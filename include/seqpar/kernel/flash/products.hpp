#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/packing.hpp>
#include <seqpar/kernel/flash/prefetch.hpp>
#include <seqpar/kernel/flash/simd.hpp>

#include <algorithm>

namespace seqpar::flash_detail {

/// tile[r][j] = sum_d rows[r * row_step + d * dim_step] panel[d][j] for score_rows rows and the first C vectors of keys of a
/// panel. Each step asks for three lines of what is to come.
template <class S, int C, class Ahead = nothing_to_come>
[[gnu::always_inline]] inline void multiply_panel(const typename S::value_type* rows, index_t row_step,
                                                  index_t dim_step, const typename S::value_type* panel, index_t dim,
                                                  typename S::vector (&tile)[S::score_rows][C], Ahead&& ahead = {}) {
    using vector = typename S::vector;
    constexpr int R = S::score_rows, W = S::lanes;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) tile[r][c] = vector{};
    for (index_t d = 0; d < dim; ++d) {
        if (d % ask_every == 0) ahead.ask(3 * ask_every);
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

/// What a group of rows sees of the panel that begins with key `begin`, as keys of the panel. How many of its first keys there
/// are up to the last that is seen; 0: none is.
template <class S>
[[gnu::always_inline]] inline index_t look_at_panel(const index_t* first, const index_t* last, index_t begin,
                                                    typename S::value_type (&from)[S::score_rows],
                                                    typename S::value_type (&to)[S::score_rows]) {
    using A = typename S::value_type;
    constexpr index_t keys = S::panel_keys;
    index_t seen = 0;
    for (index_t i = 0; i < S::score_rows; ++i) {
        const index_t a = std::clamp(first[i] - begin, index_t{0}, keys),
                      b = std::clamp(last[i] - begin, index_t{0}, keys);
        if (a < b) seen = std::max(seen, b);
        from[i] = static_cast<A>(a);
        to[i] = static_cast<A>(b);
    }
    return seen;
}

/// x[r][j] = 0 for a group of rows and the keys of a panel, rows x_step apart.
template <class S>
[[gnu::always_inline]] inline void fill_rows(typename S::value_type* x, index_t x_step) {
#pragma GCC unroll 8
    for (int r = 0; r < S::score_rows; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < S::score_vectors; ++c) store<S>(x + r * x_step + c * S::lanes) = typename S::vector{};
}

/// to[a][.] += sum_t w[a * EveryA + t * EveryT] x[t][.] for `Rows` a, `count` t and `Vectors` vectors of columns, one t
/// after the other: how they are grouped into calls does not change a bit. Rows of x are x_step apart, anywhere; those of
/// `to` `columns` apart, aligned. Where x is read in place, it `Asks` for what comes.
template <class S, int Rows, int Vectors, index_t EveryA, index_t EveryT, bool Asks, class T>
[[gnu::always_inline]] inline void add_weighted(const typename S::value_type* w, const T* x, index_t x_step,
                                                index_t count, index_t columns, typename S::value_type* to) {
    using vector = typename S::vector;
    constexpr int W = S::lanes;
    vector tile[Rows][Vectors];
#pragma GCC unroll 8
    for (int a = 0; a < Rows; ++a)
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) tile[a][c] = load<S>(to + a * columns + c * W);
    for (index_t t = 0; t < count; ++t) {
        vector value[Vectors];
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) {
            load_as<S>(x + t * x_step + c * W, value[c]);
            if constexpr (Asks) ask_for_keys_after(x + t * x_step + c * W, x_step);
        }
#pragma GCC unroll 8
        for (int a = 0; a < Rows; ++a) {
            const vector weight = w[a * EveryA + t * EveryT] - vector{};
#pragma GCC unroll 4
            for (int c = 0; c < Vectors; ++c) tile[a][c] += weight * value[c];
        }
    }
#pragma GCC unroll 8
    for (int a = 0; a < Rows; ++a)
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) store<S>(to + a * columns + c * W) = tile[a][c];
}

template <class S, int Rows, int Vectors, index_t EveryA, index_t EveryT, bool Asks, class T>
[[gnu::always_inline]] inline void add_weighted_columns(const typename S::value_type* w, const T* x, index_t x_step,
                                                        index_t count, index_t columns, typename S::value_type* to,
                                                        index_t begin, index_t end, index_t at) {
    for (index_t a = begin; a < end; a += Rows)
        add_weighted<S, Rows, Vectors, EveryA, EveryT, Asks>(w + a * EveryA, x + at, x_step, count, columns,
                                                             to + a * columns + at);
}

/// to[a][.] += sum_t w[a * EveryA + t * EveryT] x[t][.] for a in [begin, end), rounded up to Rows, and all columns, in
/// register tiles of Rows x Most vectors.
template <class S, int Rows, int Most, index_t EveryA, index_t EveryT, bool Asks = false, class T>
[[gnu::always_inline]] inline void add_product(const typename S::value_type* w, const T* x, index_t x_step,
                                               index_t count, index_t columns, typename S::value_type* to,
                                               index_t begin, index_t end) {
    constexpr index_t W = S::lanes, most = Most * W;
    index_t at = 0;
    for (; at + most <= columns; at += most)
        add_weighted_columns<S, Rows, Most, EveryA, EveryT, Asks>(w, x, x_step, count, columns, to, begin, end, at);
    const index_t left = (columns - at) / W;
    if constexpr (Most > 3) {
        if (left == 3)
            add_weighted_columns<S, Rows, 3, EveryA, EveryT, Asks>(w, x, x_step, count, columns, to, begin, end, at);
    }
    if constexpr (Most > 2) {
        if (left == 2)
            add_weighted_columns<S, Rows, 2, EveryA, EveryT, Asks>(w, x, x_step, count, columns, to, begin, end, at);
    }
    if (left == 1)
        add_weighted_columns<S, Rows, 1, EveryA, EveryT, Asks>(w, x, x_step, count, columns, to, begin, end, at);
}

/// The same in the tiles that suit many rows.
template <class S, index_t EveryA, index_t EveryT>
[[gnu::always_inline]] inline void add_product(const typename S::value_type* w, const typename S::value_type* x,
                                               index_t count, index_t columns, typename S::value_type* to,
                                               index_t begin, index_t end) {
    add_product<S, S::value_rows, S::value_vectors, EveryA, EveryT>(w, x, columns, count, columns, to, begin, end);
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
