#pragma once

#include <seqpar/kernel/flash/fold.hpp>
#include <seqpar/kernel/flash/fold_in_place.hpp>
#include <seqpar/kernel/flash/pairs.hpp>

#include <algorithm>

#if defined(__x86_64__) || defined(__i386__)

namespace seqpar::flash_detail {

/// Scores of a group of rows with a panel of keys, as store_scores leaves them.
template <bool Masked>
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline bool
score_pairs(const tile<float>& t, const pair* q, const pair* k, float* x, const float* reference, const float* first,
            const float* last) {
    using S = pair_simd;
    S::vector tile[S::score_rows][S::score_vectors];
    multiply_pairs(q, t.q_columns, k, (t.dim + 1) / 2, tile);
#pragma GCC unroll 8
    for (int r = 0; r < S::score_rows; ++r)
#pragma GCC unroll 3
        for (int c = 0; c < S::score_vectors; ++c) tile[r][c] *= t.scale - S::vector{};
    return store_scores<S, Masked>(tile, x, reference, first, last);
}

/// The weights of a block become pairs where they are: row r has its pairs from p + r * block_keys on.
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
round_weights(float* p, index_t rows) {
    using S = pair_simd;
    for (index_t r = 0; r < rows; ++r)
        for (index_t j = 0; j < block_keys; j += 2 * S::lanes) {
            const float* from = p + r * block_keys + j;
            const S::vector low = load<S>(from), high = load<S>(from + S::lanes);
            S::bits rounded;
            round_to_pairs(low, high, rounded);
            *reinterpret_cast<pairs*>(p + r * block_keys + j / 2) = rounded;
        }
}

/// acc += w v for a panel in which some v is not finite, by the same instructions in the same order: values that a row does
/// not see count as zero.
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
add_visible_pairs(const tile<float>& t, const pair* w, const pair* v, index_t v_step, index_t first_of_panel) {
    using S = pair_simd;
    for (index_t r = 0; r < t.rows; ++r)
        for (index_t n = 0; n < S::panel_keys / 2; ++n) {
            const index_t key = first_of_panel + 2 * n;
            const bool even = t.first[r] <= key && key < t.last[r], odd = t.first[r] <= key + 1 && key + 1 < t.last[r];
            const S::bits seen = ((even ? pair{0xffff} : 0) | (odd ? pair{0xffff0000} : 0)) - S::bits{};
            const S::bits weight = w[r * block_keys + n] - S::bits{};
            for (index_t c = 0; c < t.columns; c += S::lanes) {
                const S::bits value = *reinterpret_cast<const pairs*>(v + n * v_step + c) & seen;
                S::vector sum = load<S>(t.acc + r * t.columns + c);
                add_dot(sum, value, weight);
                store<S>(t.acc + r * t.columns + c) = sum;
            }
        }
}

/// fold_panels, with q, k and v in bfloat16, two by two, and weights rounded to it: half the instructions. The sum of a row
/// is of weights that are not rounded.
template <class Target>
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
fold_pairs(const tile<float>& t, const stretch<float>& s) {
    using S = pair_simd;
    constexpr index_t R = S::score_rows, keys = S::panel_keys, panels = block_keys / keys;
    const pair* const q_pairs = reinterpret_cast<const pair*>(t.q);
    const pair* const k_pairs = reinterpret_cast<const pair*>(s.k);
    const pair* const v_pairs = reinterpret_cast<const pair*>(s.v);
    float first[R], last[R];

    for (index_t p0 = s.begin; p0 < s.end;) {
        const index_t block = p0 / panels * panels, p1 = std::min(block + panels, s.end);
        bool hide_values = false;
        for (index_t panel = p0; panel < p1; ++panel) {
            const bool masked = panel < s.full_begin || panel >= s.full_end;
            hide_values |= masked && s.tainted[panel - s.base] != 0;
            const pair* k = k_pairs + (panel - s.base) * keys * ((t.dim + 1) / 2);
            float* p = t.p + (panel - block) * keys;
            for (index_t r = 0; r < t.rows; r += R) {
                const pair* q = q_pairs + r * t.q_columns;
                float* x = p + r * block_keys;
                bool raise;
                if (masked) {
                    if (!look_at_panel<S>(t.first + r, t.last + r, panel * keys, first, last)) {
                        fill_rows<S>(x, block_keys); // weights of nothing
                        continue;
                    }
                    raise = score_pairs<true>(t, q, k, x, t.reference + r, first, last);
                } else {
                    raise = score_pairs<false>(t, q, k, x, t.reference + r, first, last);
                }
                if (raise)
                    Target::raise(x, t.p + r * block_keys + (p0 - block) * keys, (panel - p0) * keys, t.reference + r,
                                  t.sums + r * S::lanes, t.acc + r * t.columns, t.columns);
                weigh_vectors<S, S::score_vectors>(x, t.reference + r, t.sums + r * S::lanes);
            }
        }

        round_weights(t.p, (t.rows + least_tile_rows - 1) / least_tile_rows * least_tile_rows);
        const pair* const w = reinterpret_cast<const pair*>(t.p);
        if (!hide_values) {
            // From an even key on: one before the first that is seen has no weight.
            const index_t begin = std::max(p0 * keys, s.first_key) / 2, end = (std::min(p1 * keys, s.last_key) + 1) / 2;
            const pair* const weights = w + (begin - block * keys / 2);
            const pair* const values = v_pairs + (begin - s.base * keys / 2) * s.v_step;
            add_pair_product<S::value_rows, S::value_vectors>(weights, block_keys, values, s.v_step, end - begin,
                                                              t.columns, t.acc, t.rows);
        } else {
            for (index_t panel = p0; panel < p1; ++panel) {
                const pair* const weights = w + (panel - block) * keys / 2;
                const pair* const values = v_pairs + (panel - s.base) * keys / 2 * s.v_step;
                if ((panel < s.full_begin || panel >= s.full_end) && s.tainted[panel - s.base] != 0)
                    add_visible_pairs(t, weights, values, s.v_step, panel * keys);
                else
                    add_pair_product<S::value_rows, S::value_vectors>(weights, block_keys, values, s.v_step, keys / 2,
                                                                      t.columns, t.acc, t.rows);
            }
        }
        p0 = p1;
    }
}

/// score_in_place, in pairs. dim: of full vectors of pairs.
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
score_pairs_in_place(const pair* q, index_t q_step, const bfloat16* k, index_t k_step, index_t dim, float scale,
                     float* x) {
    using S = pair_simd;
    constexpr int R = S::score_rows, W = S::lanes;
    S::vector sum[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = S::vector{};
    for (index_t d = 0; d < dim / 2; d += W) {
        S::vector key[W];
#pragma GCC unroll 16
        for (int j = 0; j < W; ++j) key[j] = (S::vector) * reinterpret_cast<const loose_pairs*>(k + j * k_step + 2 * d);
        transpose_square<S>(key);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) {
            ask_for_keys_after(k + i * k_step + 2 * d, k_step);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) add_dot(sum[r], (S::bits)key[i], q[r * q_step + d + i] - S::bits{});
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store<S>(x + r * block_keys) = sum[r] * (scale - S::vector{});
}

/// fold_keys_in_place, in pairs.
template <class Target>
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] inline void
fold_pairs_in_place(const tile<float>& t, const keys_in_place<bfloat16>& s) {
    using S = pair_simd;
    constexpr index_t W = S::lanes, keys = S::panel_keys;
    static_assert(in_place_rows == S::score_rows);
    const pair* const q = reinterpret_cast<const pair*>(t.q);
    for (index_t panel = 0; panel < s.panels; ++panel) {
        float* const x = t.p + panel * keys;
        for (index_t j = 0; j < keys; j += W)
            score_pairs_in_place(q, t.q_columns, s.k + (panel * keys + j) * s.k_step, s.k_step, t.dim, t.scale, x + j);
        if (exceed_reference<S>(x, t.reference))
            Target::raise(x, t.p, panel * keys, t.reference, t.sums, t.acc, t.columns);
        weigh_vectors<S, S::score_vectors>(x, t.reference, t.sums);
    }
    round_weights(t.p, S::score_rows);
    add_pair_product<S::score_rows, 3>(reinterpret_cast<const pair*>(t.p), block_keys, s.v, s.v_step,
                                       s.panels * keys / 2, t.columns, t.acc, t.rows);
}

} // namespace seqpar::flash_detail

#endif
