#pragma once

#include <seqpar/kernel/flash/amx.hpp>
#include <seqpar/kernel/flash/exp2.hpp>
#include <seqpar/kernel/flash/packing.hpp>
#include <seqpar/kernel/flash/pairs.hpp>
#include <seqpar/kernel/flash/products.hpp>
#include <seqpar/kernel/flash/tile.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#if defined(__x86_64__) && defined(__linux__)

namespace seqpar::flash_detail {

#define SEQPAR_AMX gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16")

/// A panel is what one matrix instruction takes in: 32 keys.
struct amx_simd : pair_simd {
    static constexpr int score_vectors = 2, panel_keys = 32;
};
inline constexpr index_t amx_pairs = 16; ///< of a row of a register
inline constexpr index_t amx_rows = 16;  ///< of a register
inline constexpr index_t amx_panels = 8; ///< whose weights wait for their values, so that sums are loaded once for all
static_assert(most_tile_rows == 3 * amx_rows);

/// Matrix instructions that a head_dim takes.
[[nodiscard]] constexpr index_t amx_steps(index_t dim) noexcept { return (dim + 2 * amx_pairs - 1) / (2 * amx_pairs); }

/// A tile's scratch, in tile::p: exponents of two panels, [most_tile_rows][panel_keys] each, and weights of amx_panels,
/// [most_tile_rows][amx_pairs] each.
inline constexpr index_t amx_scores = most_tile_rows * amx_simd::panel_keys, amx_weights = most_tile_rows * amx_pairs,
                         amx_scratch = 2 * amx_scores + amx_panels * amx_weights;

/// Up to 48 rows times 32 columns of sums are registers 0 to 5. Register 6 is a part of b, 7 of a. Each function is for
/// at most 16 rows times `Groups`.
template <int Groups>
[[gnu::always_inline, SEQPAR_AMX]] inline void clear_sums() {
    amx::zero<0>(), amx::zero<1>();
    if constexpr (Groups > 1) amx::zero<2>(), amx::zero<3>();
    if constexpr (Groups > 2) amx::zero<4>(), amx::zero<5>();
}
template <int Groups>
[[gnu::always_inline, SEQPAR_AMX]] inline void load_sums(const float* from, index_t step, bool wide) {
    amx::load<0>(from, step);
    if (wide) amx::load<1>(from + amx_pairs, step);
    if constexpr (Groups > 1) amx::load<2>(from + amx_rows * step, step);
    if (Groups > 1 && wide) amx::load<3>(from + amx_rows * step + amx_pairs, step);
    if constexpr (Groups > 2) amx::load<4>(from + 2 * amx_rows * step, step);
    if (Groups > 2 && wide) amx::load<5>(from + 2 * amx_rows * step + amx_pairs, step);
}
template <int Groups>
[[gnu::always_inline, SEQPAR_AMX]] inline void store_sums(float* to, index_t step, bool wide) {
    amx::store<0>(to, step);
    if (wide) amx::store<1>(to + amx_pairs, step);
    if constexpr (Groups > 1) amx::store<2>(to + amx_rows * step, step);
    if (Groups > 1 && wide) amx::store<3>(to + amx_rows * step + amx_pairs, step);
    if constexpr (Groups > 2) amx::store<4>(to + 2 * amx_rows * step, step);
    if (Groups > 2 && wide) amx::store<5>(to + 2 * amx_rows * step + amx_pairs, step);
}
/// sums += a b for one of the two columns of registers. Rows of a and of b are so many pairs apart.
template <int Groups, int Column>
[[gnu::always_inline, SEQPAR_AMX]] inline void multiply_column(const pair* a, index_t a_step, const pair* b,
                                                               index_t b_step) {
    amx::load<6>(b, b_step);
    amx::load<7>(a, a_step);
    amx::multiply<Column, 7, 6>();
    if constexpr (Groups > 1) {
        amx::load<7>(a + amx_rows * a_step, a_step);
        amx::multiply<2 + Column, 7, 6>();
    }
    if constexpr (Groups > 2) {
        amx::load<7>(a + 2 * amx_rows * a_step, a_step);
        amx::multiply<4 + Column, 7, 6>();
    }
}

/// Adds q k of 32 dims to the sums. k: [pairs][panel_keys].
template <int Groups>
[[gnu::always_inline, SEQPAR_AMX]] inline void add_scores(const pair* q, index_t q_step, const pair* k) {
    constexpr index_t keys = amx_simd::panel_keys;
    multiply_column<Groups, 0>(q, q_step, k, keys);
    multiply_column<Groups, 1>(q, q_step, k + amx_pairs, keys);
}

/// acc[r][.] += w[r] v for the keys of `panels` panels. w: [panels][amx_weights], v: [panels][panel_keys / 2], v_step apart.
template <int Groups>
[[gnu::always_inline, SEQPAR_AMX]] inline void add_values(const pair* w, const pair* v, index_t v_step, index_t panels,
                                                          index_t columns, float* acc) {
    for (index_t c = 0; c < columns; c += 2 * amx_pairs) {
        const bool wide = c + amx_pairs < columns;
        load_sums<Groups>(acc + c, columns, wide);
        for (index_t p = 0; p < panels; ++p) {
            const pair* const b = v + p * amx_pairs * v_step + c;
            multiply_column<Groups, 0>(w + p * amx_weights, amx_pairs, b, v_step);
            if (wide) multiply_column<Groups, 1>(w + p * amx_weights, amx_pairs, b + amx_pairs, v_step);
        }
        store_sums<Groups>(acc + c, columns, wide);
    }
}

/// The same for one panel in which some v is not finite: row by row, with zeros for what the row does not see.
[[gnu::noinline, SEQPAR_AMX]] inline void add_visible_values(const tile<float>& t, const pair* w, const pair* v,
                                                             index_t v_step, index_t first_of_panel) {
    alignas(64) pair seen[amx_pairs * amx_pairs], weights[amx_rows * amx_pairs] = {};
    alignas(64) float sums[amx_rows * amx_pairs] = {};
    for (index_t r = 0; r < t.rows; ++r) {
        std::copy_n(w + r * amx_pairs, amx_pairs, weights);
        for (index_t c = 0; c < t.columns; c += amx_pairs) {
            for (index_t n = 0; n < amx_pairs; ++n) {
                const index_t key = first_of_panel + 2 * n;
                const bool even = t.first[r] <= key && key < t.last[r],
                           odd = t.first[r] <= key + 1 && key + 1 < t.last[r];
                const pair bits = (even ? pair{0xffff} : 0) | (odd ? pair{0xffff0000} : 0);
                for (index_t i = 0; i < amx_pairs; ++i) seen[n * amx_pairs + i] = v[n * v_step + c + i] & bits;
            }
            std::copy_n(t.acc + r * t.columns + c, amx_pairs, sums);
            amx::load<0>(sums, amx_pairs);
            multiply_column<1, 0>(weights, amx_pairs, seen, amx_pairs);
            amx::store<0>(sums, amx_pairs);
            std::copy_n(sums, amx_pairs, t.acc + r * t.columns + c);
        }
    }
}

[[nodiscard]] inline bool has_reference(float reference) noexcept {
    return reference != std::numeric_limits<float>::lowest();
}
[[nodiscard]] inline bool all_have_references(const tile<float>& t) noexcept {
    return std::all_of(t.reference, t.reference + t.rows, has_reference);
}

/// x[r][j] becomes an exponent, scale x[r][j] - reference_r, for rows [begin, end) and the keys of a panel; -inf where
/// `Masked` and the row does not see them. While a row has no reference it counts as 0. Tells whether one exceeds it by too
/// much.
template <bool Masked>
[[gnu::always_inline, SEQPAR_AMX]] inline bool scale_rows(const tile<float>& t, index_t first_of_panel, index_t begin,
                                                          index_t end, float* x) {
    using S = amx_simd;
    const S::vector scale = t.scale - S::vector{};
    S::vector excess[S::score_vectors];
#pragma GCC unroll 2
    for (S::vector& most : excess) most = std::numeric_limits<float>::lowest() - S::vector{};
    for (index_t r = begin; r < end; ++r) {
        const S::vector base = (has_reference(t.reference[r]) ? t.reference[r] : 0.0F) - S::vector{};
        float first = 0, last = 0;
        if constexpr (Masked) {
            first = static_cast<float>(std::clamp(t.first[r] - first_of_panel, index_t{0}, index_t{S::panel_keys}));
            last = static_cast<float>(std::clamp(t.last[r] - first_of_panel, index_t{0}, index_t{S::panel_keys}));
        }
#pragma GCC unroll 2
        for (int c = 0; c < S::score_vectors; ++c) {
            S::vector over = load<S>(x + r * S::panel_keys + c * S::lanes) * scale - base;
            if constexpr (Masked) {
                S::bits seen;
                lanes_between<S>(c * S::lanes, first, last, seen);
                const S::vector hidden = -std::numeric_limits<float>::infinity() - S::vector{};
                over = (S::vector)(((S::bits)over & seen) | ((S::bits)hidden & ~seen));
            }
            store<S>(x + r * S::panel_keys + c * S::lanes) = over;
            // The order of the operands keeps a NaN from hiding the score of another row.
            excess[c] = over > excess[c] ? over : excess[c];
        }
    }
    excess[0] = excess[1] > excess[0] ? excess[1] : excess[0];
    return any_above<S>(excess[0], static_cast<float>(lazy_threshold));
}

/// Gives those of the rows that have no reference, or whose exponents in x exceed it by too much, a new one: their maximum,
/// rounded up. As references are whole numbers, weights that wait, in `waiting` panels of w, shrink by a power of two, and
/// keep their bits.
[[gnu::noinline, SEQPAR_AMX]] inline void raise_references(const tile<float>& t, index_t begin, index_t end, float* x,
                                                           pair* w, index_t waiting) {
    using S = amx_simd;
    for (index_t r = begin; r < end; ++r) {
        float* const row = x + r * S::panel_keys;
        S::vector top = std::numeric_limits<float>::lowest() - S::vector{};
        for (index_t j = 0; j < S::panel_keys; j += S::lanes) {
            const S::vector over = load<S>(row + j);
            top = over > top ? over : top;
        }
        largest_lane<S>(top);
        const float before = t.reference[r];
        if (!(top[0] >
              (has_reference(before) ? static_cast<float>(lazy_threshold) : std::numeric_limits<float>::lowest())))
            continue;
        const float base = has_reference(before) ? before : 0.0F, now = base + std::ceil(top[0]), raised = now - base;
        t.reference[r] = now;
        for (index_t j = 0; j < S::panel_keys; j += S::lanes) store<S>(row + j) -= raised - S::vector{};
        if (!has_reference(before)) continue; // has no weight yet
        S::vector shrink = -raised - S::vector{};
        exp2_in_place<S>(shrink);
        store<S>(t.sums + r * S::lanes) *= shrink;
        for (index_t d = 0; d < t.columns; d += S::lanes) store<S>(t.acc + r * t.columns + d) *= shrink;
        for (index_t p = 0; p < waiting; ++p) {
            pairs& weights = *reinterpret_cast<pairs*>(w + p * amx_weights + r * amx_pairs);
            const S::vector even = (S::vector)(weights << 16) * shrink,
                            odd = (S::vector)(weights & 0xffff0000U) * shrink;
            weights = ((S::bits)even >> 16) | ((S::bits)odd & 0xffff0000U);
        }
    }
}

/// Exponents in x become weights, which are added to the rows' sums and then rounded to bfloat16, in w.
[[gnu::always_inline, SEQPAR_AMX]] inline void weigh_rows(const tile<float>& t, index_t begin, index_t end,
                                                          const float* x, pair* w) {
    using S = amx_simd;
#pragma GCC unroll 2
    for (index_t r = begin; r < end; ++r) {
        S::vector low = load<S>(x + r * S::panel_keys), high = load<S>(x + r * S::panel_keys + S::lanes);
        exp2_in_place<S>(low);
        exp2_in_place<S>(high);
        S::bits rounded;
        round_to_pairs(low, high, rounded);
        *reinterpret_cast<pairs*>(w + r * amx_pairs) = rounded;
        low += high;
        store<S>(t.sums + r * S::lanes) += low;
    }
}

/// fold_pairs by matrix instructions. While the scores of a panel become weights, the products of the next one run: these
/// take other units of the processor. Each row's references follow its own scores, panel by panel, and its sums run in the
/// order of the keys: so it gets the same bits whatever its neighbours see.
template <int Groups>
[[gnu::always_inline, SEQPAR_AMX]] inline void fold_groups(const tile<float>& t, const stretch<float>& s) {
    using S = amx_simd;
    constexpr index_t keys = S::panel_keys, parts = 4; // of the rows, and of a panel's products
    const pair* const q = reinterpret_cast<const pair*>(t.q);
    const pair* const v = reinterpret_cast<const pair*>(s.v);
    const index_t steps = amx_steps(t.dim), part_rows = (t.rows + parts - 1) / parts;
    const pair* k = reinterpret_cast<const pair*>(s.k) + (s.begin - s.base) * keys * steps * amx_pairs;
    float *x = t.p, *next_x = t.p + amx_scores;
    pair* const w = reinterpret_cast<pair*>(t.p + 2 * amx_scores);
    const amx::registers borrowed;
    bool all_refer = all_have_references(t);
    bool hidden[amx_panels];
    index_t waiting = 0; // panels

    clear_sums<Groups>();
    for (index_t step = 0; step < steps; ++step, k += amx_pairs * keys)
        add_scores<Groups>(q + step * amx_pairs, t.q_columns, k);
    store_sums<Groups>(x, keys, true);

    for (index_t panel = s.begin; panel < s.end; ++panel) {
        const bool masked = panel < s.full_begin || panel >= s.full_end, last = panel + 1 == s.end;
        pair* const weights = w + waiting * amx_weights;
        clear_sums<Groups>();
        for (index_t part = 0, step = 0; part < parts; ++part) {
            for (; !last && step < steps * (part + 1) / parts; ++step, k += amx_pairs * keys)
                add_scores<Groups>(q + step * amx_pairs, t.q_columns, k);
            const index_t begin = std::min(part * part_rows, t.rows), end = std::min(begin + part_rows, t.rows);
            const bool raise = masked ? scale_rows<true>(t, panel * keys, begin, end, x)
                                      : scale_rows<false>(t, panel * keys, begin, end, x);
            if (raise || !all_refer) raise_references(t, begin, end, x, w, waiting);
            weigh_rows(t, begin, end, x, weights);
        }
        if (!last) store_sums<Groups>(next_x, keys, true);
        std::swap(x, next_x);
        if (!all_refer) all_refer = all_have_references(t);

        hidden[waiting++] = masked && s.tainted[panel - s.base] != 0;
        if (waiting < amx_panels && !last) continue;
        const pair* values = v + (panel + 1 - waiting - s.base) * amx_pairs * s.v_step;
        for (index_t p = 0, count; p < waiting; p += count) {
            for (count = 1; !hidden[p] && p + count < waiting && !hidden[p + count];) ++count;
            if (hidden[p])
                add_visible_values(t, w + p * amx_weights, values + p * amx_pairs * s.v_step, s.v_step,
                                   (panel + 1 - waiting + p) * keys);
            else
                add_values<Groups>(w + p * amx_weights, values + p * amx_pairs * s.v_step, s.v_step, count, t.columns,
                                   t.acc);
        }
        waiting = 0;
    }
}

[[gnu::always_inline, SEQPAR_AMX]] inline void fold_amx(const tile<float>& t, const stretch<float>& s) {
    if (s.begin >= s.end) return;
    if (t.rows <= amx_rows)
        fold_groups<1>(t, s);
    else if (t.rows <= 2 * amx_rows)
        fold_groups<2>(t, s);
    else
        fold_groups<3>(t, s);
}

#undef SEQPAR_AMX

} // namespace seqpar::flash_detail

#endif
