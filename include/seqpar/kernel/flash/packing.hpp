#pragma once

#include <seqpar/core/element.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/prefetch.hpp>
#include <seqpar/kernel/flash/simd.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

namespace seqpar::flash_detail {

/// x = `lanes` elements in their storage type.
template <class S, class T>
[[gnu::always_inline]] inline void load_as(const T* from, typename S::vector& x) {
    if constexpr (std::is_same_v<T, typename S::value_type>) {
        x = anywhere<S>(from).value;
    } else {
        static_assert(std::is_same_v<T, bfloat16>);
        typedef std::uint16_t halves __attribute__((vector_size(sizeof(typename S::vector) / 2)));
        struct __attribute__((packed, may_alias)) loose {
            halves value;
        };
        x = (typename S::vector)(__builtin_convertvector(reinterpret_cast<const loose*>(from)->value, typename S::bits)
                                 << 16);
    }
}

template <class S, int H, int... Lane>
[[gnu::always_inline]] inline void add_half(typename S::vector& x, std::integer_sequence<int, Lane...>) {
    const typename S::vector other = __builtin_shufflevector(x, x, (Lane ^ H)...);
    x += other;
}
/// x = the sum of its lanes, in all of them.
template <class S>
[[gnu::always_inline]] inline void add_lanes(typename S::vector& x) {
    constexpr std::make_integer_sequence<int, S::lanes> all;
    if constexpr (S::lanes > 8) add_half<S, 8>(x, all);
    if constexpr (S::lanes > 4) add_half<S, 4>(x, all);
    if constexpr (S::lanes > 2) add_half<S, 2>(x, all);
    add_half<S, 1>(x, all);
}

/// to[0, columns) = `count` elements of `from`, `step` apart, times factor, then zeros. Tells whether all are finite.
template <class S, class T>
[[gnu::always_inline]] inline bool copy_row(const T* from, index_t step, index_t count, typename S::value_type factor,
                                            typename S::value_type* to, index_t columns) {
    using A = typename S::value_type;
    using vector = typename S::vector;
    const vector times = factor - vector{};
    vector poison{}; // x - x: zero, or NaN where x is not finite
    index_t d = 0;
    for (; step == 1 && d + S::lanes <= count; d += S::lanes) {
        vector x;
        load_as<S>(from + d, x);
        poison += x - x;
        store<S>(to + d) = x * times;
    }
    A rest{};
    for (; d < count; ++d) {
        const A x = static_cast<A>(from[d * step]);
        rest += x - x;
        to[d] = x * factor;
    }
    for (; d < columns; ++d) to[d] = A{};
    add_lanes<S>(poison);
    return rest + poison[0] == A{};
}

/// Two vectors are blocks of 16 bytes, whose elements meet in groups of E: of each block, the lower (or the upper) half of
/// a's groups and b's by turns.
template <class S, int E, bool Upper, int... Lane>
[[gnu::always_inline]] inline void unpack(const typename S::vector& a, const typename S::vector& b,
                                          typename S::vector& to, std::integer_sequence<int, Lane...>) {
    constexpr int B = 16 / static_cast<int>(sizeof(typename S::value_type));
    to = __builtin_shufflevector(
        a, b,
        ((Lane % B / E % 2) * S::lanes + Lane / B * B + (Upper ? B / 2 : 0) + Lane % B / E / 2 * E + Lane % E)...);
}

/// The even (or the odd) blocks of a, then those of b.
template <class S, int Odd, int... Lane>
[[gnu::always_inline]] inline void deal(const typename S::vector& a, const typename S::vector& b,
                                        typename S::vector& to, std::integer_sequence<int, Lane...>) {
    constexpr int B = 16 / static_cast<int>(sizeof(typename S::value_type)), half = S::lanes / 2;
    to = __builtin_shufflevector(a, b, (Lane / half * S::lanes + (Lane % half / B * 2 + Odd) * B + Lane % B)...);
}

/// A square of `lanes` rows: in steps that every instruction set has as one instruction.
template <class S>
[[gnu::always_inline]] inline void transpose_square(typename S::vector (&x)[S::lanes]) {
    using vector = typename S::vector;
    constexpr int W = S::lanes, B = 16 / static_cast<int>(sizeof(typename S::value_type));
    constexpr std::make_integer_sequence<int, W> all;
    vector y[W];
    // Within blocks: y[g + c] has column c of each block, of rows g to g + B.
    if constexpr (B == 4) {
        vector z[W];
#pragma GCC unroll 16
        for (int i = 0; i < W; i += 2) {
            unpack<S, 1, false>(x[i], x[i + 1], z[i], all);
            unpack<S, 1, true>(x[i], x[i + 1], z[i + 1], all);
        }
#pragma GCC unroll 4
        for (int g = 0; g < W; g += 4) {
            unpack<S, 2, false>(z[g], z[g + 2], y[g], all);
            unpack<S, 2, true>(z[g], z[g + 2], y[g + 1], all);
            unpack<S, 2, false>(z[g + 1], z[g + 3], y[g + 2], all);
            unpack<S, 2, true>(z[g + 1], z[g + 3], y[g + 3], all);
        }
    } else {
#pragma GCC unroll 4
        for (int g = 0; g < W; g += 2) {
            unpack<S, 1, false>(x[g], x[g + 1], y[g], all);
            unpack<S, 1, true>(x[g], x[g + 1], y[g + 1], all);
        }
    }
    // Of blocks: x[l * B + c] is column c of block l.
#pragma GCC unroll 4
    for (int c = 0; c < B; ++c) {
        if constexpr (W / B == 4) {
            vector even[2], odd[2];
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i) {
                deal<S, 0>(y[2 * i * B + c], y[(2 * i + 1) * B + c], even[i], all);
                deal<S, 1>(y[2 * i * B + c], y[(2 * i + 1) * B + c], odd[i], all);
            }
            deal<S, 0>(even[0], even[1], x[c], all);
            deal<S, 0>(odd[0], odd[1], x[B + c], all);
            deal<S, 1>(even[0], even[1], x[2 * B + c], all);
            deal<S, 1>(odd[0], odd[1], x[3 * B + c], all);
        } else if constexpr (W / B == 2) {
            deal<S, 0>(y[c], y[B + c], x[c], all);
            deal<S, 1>(y[c], y[B + c], x[B + c], all);
        } else {
            x[c] = y[c];
        }
    }
}

/// panel[d][j] = rows[j][d * steps[j]] for the keys of a panel; 0 from the first null on. rows: [panel_keys + keys_ahead], the
/// last of which are asked for.
template <class S, class T>
[[gnu::always_inline]] inline void transpose_rows(const T* const* rows, const index_t* steps, index_t dim,
                                                  typename S::value_type* panel) {
    using A = typename S::value_type;
    constexpr int W = S::lanes;
    for (int from = 0; from < S::panel_keys; from += W) {
        bool dense = rows[from + W - 1] != nullptr;
        for (int j = 0; dense && j < W; ++j) dense = steps[from + j] == 1;
        index_t d = 0;
        for (; dense && d + W <= dim; d += W) {
            typename S::vector x[W];
#pragma GCC unroll 16
            for (int j = 0; j < W; ++j) {
                load_as<S>(rows[from + j] + d, x[j]);
                ask_for(rows[from + j + keys_ahead], d * index_t{sizeof(T)});
            }
            transpose_square<S>(x);
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) store<S>(panel + (d + i) * S::panel_keys + from) = x[i];
        }
        for (; d < dim; ++d)
            for (int j = 0; j < W; ++j)
                panel[d * S::panel_keys + from + j] =
                    rows[from + j] != nullptr ? static_cast<A>(rows[from + j][d * steps[from + j]]) : A{};
    }
}

/// to[j][.] = rows[j][.], `columns` apart and padded with zeros, for the keys of a panel; 0 from the first null on. Tells
/// whether all are finite. rows: as in transpose_rows.
template <class S, class T>
[[gnu::always_inline]] inline bool copy_rows(const T* const* rows, const index_t* steps, index_t dim,
                                             typename S::value_type* to, index_t columns) {
    using A = typename S::value_type;
    bool finite = true;
    index_t j = 0;
    for (; j < S::panel_keys && rows[j] != nullptr; ++j) {
        for (index_t d = 0; d < dim; d += S::lanes) ask_for(rows[j + keys_ahead], d * index_t{sizeof(T)});
        finite &= copy_row<S>(rows[j], steps[j], dim, A{1}, to + j * columns, columns);
    }
    std::fill_n(to + j * columns, (S::panel_keys - j) * columns, A{});
    return finite;
}

/// to[0, count) = to * mine + other * theirs.
template <class S>
[[gnu::always_inline]] inline void blend_row(typename S::value_type* to, typename S::value_type mine,
                                             const typename S::value_type* other, typename S::value_type theirs,
                                             index_t count) {
    using vector = typename S::vector;
    const vector a = mine - vector{}, b = theirs - vector{};
    index_t d = 0;
    for (; d + S::lanes <= count; d += S::lanes)
        anywhere<S>(to + d).value = anywhere<S>(to + d).value * a + anywhere<S>(other + d).value * b;
    for (; d < count; ++d) to[d] = to[d] * mine + other[d] * theirs;
}

/// sums[r][0] = the sum of the lanes of row r.
template <class S>
[[gnu::always_inline]] inline void add_lanes_of_rows(typename S::value_type* sums, index_t rows) {
    for (index_t r = 0; r < rows; ++r) {
        typename S::vector x = load<S>(sums + r * S::lanes);
        add_lanes<S>(x);
        sums[r * S::lanes] = x[0];
    }
}

/// The largest lane, in all of them. NaN is not larger.
template <class S, int H, int... Lane>
[[gnu::always_inline]] inline void larger_half(typename S::vector& x, std::integer_sequence<int, Lane...>) {
    const typename S::vector other = __builtin_shufflevector(x, x, (Lane ^ H)...);
    x = other > x ? other : x;
}
template <class S>
[[gnu::always_inline]] inline void largest_lane(typename S::vector& x) {
    constexpr std::make_integer_sequence<int, S::lanes> all;
    if constexpr (S::lanes > 8) larger_half<S, 8>(x, all);
    if constexpr (S::lanes > 4) larger_half<S, 4>(x, all);
    if constexpr (S::lanes > 2) larger_half<S, 2>(x, all);
    larger_half<S, 1>(x, all);
}

} // namespace seqpar::flash_detail
