#pragma once

#include <seqpar/core/element.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/packing.hpp>
#include <seqpar/kernel/flash/prefetch.hpp>
#include <seqpar/kernel/flash/simd.hpp>
#include <seqpar/kernel/flash/tile.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(__i386__)

/// Two bfloat16 side by side in 32 bits, and the AVX-512 BF16 instructions that multiply them: sum += a0 b0 + a1 b1 in
/// float, as one instruction for 16 sums. Products are exact; each addition rounds to nearest, and numbers below the
/// smallest normal one count as zero.
///
/// Unlike elsewhere in this room the functions name their instruction set: clang will not take the registers otherwise.
namespace seqpar::flash_detail {

using pair_simd = simd<float, 64, 8, 4>;
using pair = std::uint32_t;

/// 16 pairs from anywhere.
typedef pair loose_pairs __attribute__((vector_size(64), may_alias, aligned(2)));
typedef pair pairs __attribute__((vector_size(64), may_alias));

[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
add_dot(pair_simd::vector& sum, const pair_simd::bits& a, const pair_simd::bits& b) {
    pair_simd::vector total = sum; // g++ would keep an element of an array in memory
    asm("vdpbf16ps %2, %1, %0" : "+v"(total) : "v"(a), "v"(b));
    sum = total;
}

/// 32 floats rounded to bfloat16, in their order, as 16 pairs.
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
round_to_pairs(const pair_simd::vector& low, const pair_simd::vector& high, pair_simd::bits& to) {
    asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(to) : "v"(low), "v"(high));
}

/// tile[r][j] = q_r . k_j of `pairs` pairs. q: rows q_step pairs apart. k: [pairs][panel_keys].
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
multiply_pairs(const pair* q, index_t q_step, const pair* k, index_t count,
               pair_simd::vector (&tile)[pair_simd::score_rows][pair_simd::score_vectors]) {
    using S = pair_simd;
    constexpr int R = S::score_rows, C = S::score_vectors, W = S::lanes;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) tile[r][c] = S::vector{};
    for (index_t d = 0; d < count; ++d) {
        S::bits key[C];
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c) key[c] = *reinterpret_cast<const pairs*>(k + d * S::panel_keys + c * W);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const S::bits row = q[r * q_step + d] - S::bits{};
#pragma GCC unroll 3
            for (int c = 0; c < C; ++c) add_dot(tile[r][c], key[c], row);
        }
    }
}

/// 16 columns of the values of two keys, side by side.
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
load_both(const bfloat16* even, const bfloat16* odd, pair_simd::bits& low, pair_simd::bits& high) {
    typedef std::uint16_t halves __attribute__((vector_size(32), may_alias, aligned(2)));
    // __builtin_convertvector is seven instructions of g++ 12.
    asm("vpmovzxwd %1, %0" : "=v"(low) : "m"(*reinterpret_cast<const halves*>(even)));
    asm("vpmovzxwd %1, %0" : "=v"(high) : "m"(*reinterpret_cast<const halves*>(odd)));
}

/// 16 columns from `column` on of pair t of keys: of pairs, x_step apart, or of keys in place, x_step apart, while those that
/// come are asked for.
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
load_values(const pair* x, index_t x_step, index_t t, index_t column, pair_simd::bits& to) {
    to = *reinterpret_cast<const pairs*>(x + t * x_step + column);
}
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
load_values(const bfloat16* x, index_t x_step, index_t t, index_t column, pair_simd::bits& to) {
    const bfloat16 *even = x + 2 * t * x_step + column, *odd = even + x_step;
    ask_for_keys_after(even, x_step);
    ask_for_keys_after(odd, x_step);
    pair_simd::bits high;
    load_both(even, odd, to, high);
    to |= high << 16;
}

/// to[a][.] += sum_t w[a][t] . x[t][.] for Rows a, `count` pairs of keys t and `Vectors` vectors of columns. w: rows w_step
/// pairs apart. x: as load_values has it.
template <int Rows, int Vectors, class T>
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
add_weighted_pairs(const pair* w, index_t w_step, const T* x, index_t x_step, index_t count, index_t columns,
                   float* to) {
    using S = pair_simd;
    constexpr int W = S::lanes;
    S::vector tile[Rows][Vectors];
#pragma GCC unroll 8
    for (int a = 0; a < Rows; ++a)
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) tile[a][c] = load<S>(to + a * columns + c * W);
    for (index_t t = 0; t < count; ++t) {
        S::bits value[Vectors];
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) load_values(x, x_step, t, c * W, value[c]);
#pragma GCC unroll 8
        for (int a = 0; a < Rows; ++a) {
            const S::bits weight = w[a * w_step + t] - S::bits{};
#pragma GCC unroll 4
            for (int c = 0; c < Vectors; ++c) add_dot(tile[a][c], value[c], weight);
        }
    }
#pragma GCC unroll 8
    for (int a = 0; a < Rows; ++a)
#pragma GCC unroll 4
        for (int c = 0; c < Vectors; ++c) store<S>(to + a * columns + c * W) = tile[a][c];
}

/// The same for `rows` a, rounded up to Rows, and all columns.
template <int Rows, int Most, class T>
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
add_pair_product(const pair* w, index_t w_step, const T* x, index_t x_step, index_t count, index_t columns, float* to,
                 index_t rows) {
    constexpr index_t W = pair_simd::lanes;
    index_t at = 0;
    for (; at + Most * W <= columns; at += Most * W)
        for (index_t a = 0; a < rows; a += Rows)
            add_weighted_pairs<Rows, Most>(w + a * w_step, w_step, x + at, x_step, count, columns,
                                           to + a * columns + at);
    for (; at < columns; at += W)
        for (index_t a = 0; a < rows; a += Rows)
            add_weighted_pairs<Rows, 1>(w + a * w_step, w_step, x + at, x_step, count, columns, to + a * columns + at);
}

/// to[0, columns) = elements of `from` two by two, then zeros.
inline void copy_pairs(const bfloat16* from, index_t step, index_t count, pair* to, index_t columns) {
    const auto bits = [&](index_t d) { return d < count ? pair{from[d * step].bits()} : pair{0}; };
    index_t filled = 0;
    if (step == 1) {
        filled = count / 2;
        std::memcpy(to, from, static_cast<std::size_t>(filled) * sizeof(pair));
    }
    for (; filled < columns; ++filled) to[filled] = bits(2 * filled) | bits(2 * filled + 1) << 16;
}

/// panel[d][j] = elements 2 d and 2 d + 1 of rows[j], for the keys of a panel and `count` pairs; 0 where there are none, and
/// from the first null on.
template <int Keys>
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
transpose_pairs(const bfloat16* const* rows, const index_t* steps, index_t dim, index_t count, pair* panel) {
    using S = pair_simd;
    constexpr int W = S::lanes;
    for (int from = 0; from < Keys; from += W) {
        index_t d = 0; // pairs
        bool dense = rows[from + W - 1] != nullptr;
        for (int j = 0; dense && j < W; ++j) dense = steps[from + j] == 1;
        for (; dense && 2 * (d + W) <= dim; d += W) {
            S::vector x[W];
#pragma GCC unroll 16
            for (int j = 0; j < W; ++j) {
                x[j] = (S::vector) * reinterpret_cast<const loose_pairs*>(rows[from + j] + 2 * d);
                ask_for(rows[from + j + keys_ahead], d * index_t{sizeof(pair)});
            }
            transpose_square<S>(x);
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) *reinterpret_cast<pairs*>(panel + (d + i) * Keys + from) = (S::bits)x[i];
        }
        for (; d < count; ++d)
            for (int j = from; j < from + W; ++j) {
                pair& to = panel[d * Keys + j];
                to = 0;
                if (rows[j] == nullptr || 2 * d >= dim) continue;
                to = rows[j][2 * d * steps[j]].bits();
                if (2 * d + 1 < dim) to |= pair{rows[j][(2 * d + 1) * steps[j]].bits()} << 16;
            }
    }
}

/// to[t][c] = element c of rows[2 t] and of rows[2 t + 1], for the keys of a panel, zeros for what is not there. Tells
/// whether all are finite.
template <int Keys>
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline bool
interleave_pairs(const bfloat16* const* rows, const index_t* steps, index_t dim, pair* to, index_t columns) {
    using S = pair_simd;
    constexpr int W = S::lanes;
    constexpr pair exponent = 0x7f80;
    S::bits endless{};
    bool finite = true;
    for (index_t t = 0; t < Keys / 2; ++t, to += columns) {
        const bfloat16 *even = rows[2 * t], *odd = rows[2 * t + 1];
        index_t c = 0;
        for (; odd != nullptr && steps[2 * t] == 1 && steps[2 * t + 1] == 1 && c + W <= dim; c += W) {
            S::bits a, b;
            load_both(even + c, odd + c, a, b);
            if (c % (2 * W) == 0) {
                ask_for(rows[2 * t + keys_ahead], c * index_t{sizeof(bfloat16)});
                ask_for(rows[2 * t + 1 + keys_ahead], c * index_t{sizeof(bfloat16)});
            }
            endless |= (S::bits)((a & exponent) == (exponent - S::bits{})) |
                       (S::bits)((b & exponent) == (exponent - S::bits{}));
            *reinterpret_cast<pairs*>(to + c) = a | b << 16;
        }
        for (; c < columns; ++c) {
            const pair a = even != nullptr && c < dim ? even[c * steps[2 * t]].bits() : pair{0},
                       b = odd != nullptr && c < dim ? odd[c * steps[2 * t + 1]].bits() : pair{0};
            finite &= (a & exponent) != exponent && (b & exponent) != exponent;
            to[c] = a | b << 16;
        }
    }
    for (int i = 0; i < W; ++i) finite &= endless[i] == 0;
    return finite;
}

} // namespace seqpar::flash_detail

#endif
