#pragma once

#include <seqpar/core/element.hpp>
#include <seqpar/core/tensor.hpp>
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
        x = anywhere<S>(from);
    } else {
        static_assert(std::is_same_v<T, bfloat16>);
        typedef std::uint16_t halves __attribute__((vector_size(sizeof(typename S::vector) / 2), may_alias, aligned(2)));
        x = (typename S::vector)(__builtin_convertvector(*reinterpret_cast<const halves*>(from), typename S::bits)
                                 << 16);
    }
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
    for (int i = 0; i < S::lanes; ++i) rest += poison[i];
    return rest == A{};
}

/// One step of a transposition: lanes whose number has the bit H and those that have not change places between a and b.
template <class S, int H, int... Lane>
[[gnu::always_inline]] inline void swap_halves(typename S::vector& a, typename S::vector& b,
                                               std::integer_sequence<int, Lane...>) {
    const typename S::vector low =
        __builtin_shufflevector(a, b, ((Lane & H) != 0 ? S::lanes + Lane - H : Lane)...);
    b = __builtin_shufflevector(a, b, ((Lane & H) != 0 ? S::lanes + Lane : Lane + H)...);
    a = low;
}

template <class S, int H>
[[gnu::always_inline]] inline void transpose_bit(typename S::vector (&x)[S::lanes]) {
    if constexpr (H < S::lanes) {
#pragma GCC unroll 16
        for (int i = 0; i < S::lanes; ++i)
            if ((i & H) == 0) swap_halves<S, H>(x[i], x[i + H], std::make_integer_sequence<int, S::lanes>{});
    }
}

/// panel[d][j] = rows[j][d] for the keys of a panel; 0 where rows[j] is null.
template <class S, class T>
[[gnu::always_inline]] inline void transpose_rows(const T* const* rows, index_t dim, typename S::value_type* panel) {
    using A = typename S::value_type;
    using vector = typename S::vector;
    constexpr int W = S::lanes;
    for (int from = 0; from < S::panel_keys; from += W) {
        index_t d = 0;
        for (; d + W <= dim; d += W) {
            vector x[W];
#pragma GCC unroll 16
            for (int j = 0; j < W; ++j) {
                if (rows[from + j] != nullptr)
                    load_as<S>(rows[from + j] + d, x[j]);
                else
                    x[j] = vector{};
            }
            transpose_bit<S, 1>(x);
            transpose_bit<S, 2>(x);
            transpose_bit<S, 4>(x);
            transpose_bit<S, 8>(x);
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) store<S>(panel + (d + i) * S::panel_keys + from) = x[i];
        }
        for (; d < dim; ++d)
            for (int j = 0; j < W; ++j)
                panel[d * S::panel_keys + from + j] =
                    rows[from + j] != nullptr ? static_cast<A>(rows[from + j][d]) : A{};
    }
}

/// to[0, count) = to * mine + other * theirs.
template <class S>
[[gnu::always_inline]] inline void blend_row(typename S::value_type* to, typename S::value_type mine,
                                             const typename S::value_type* other, typename S::value_type theirs,
                                             index_t count) {
    using vector = typename S::vector;
    const vector a = mine - vector{}, b = theirs - vector{};
    index_t d = 0;
    for (; d + S::lanes <= count; d += S::lanes) anywhere<S>(to + d) = anywhere<S>(to + d) * a + anywhere<S>(other + d) * b;
    for (; d < count; ++d) to[d] = to[d] * mine + other[d] * theirs;
}

/// The sum of the lanes, in an order of its own, into the first one.
template <class S, int H, int... Lane>
[[gnu::always_inline]] inline void add_half(typename S::vector& x, std::integer_sequence<int, Lane...>) {
    const typename S::vector other = __builtin_shufflevector(x, x, (Lane ^ H)...);
    x += other;
}
template <class S>
[[gnu::always_inline]] inline void add_lanes(typename S::vector& x) {
    constexpr std::make_integer_sequence<int, S::lanes> all;
    if constexpr (S::lanes > 8) add_half<S, 8>(x, all);
    if constexpr (S::lanes > 4) add_half<S, 4>(x, all);
    if constexpr (S::lanes > 2) add_half<S, 2>(x, all);
    add_half<S, 1>(x, all);
}

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
