#pragma once

#include <seqpar/kernel/flash/cache_size.hpp>
#include <seqpar/kernel/flash/fold.hpp>
#include <seqpar/kernel/flash/fold_amx.hpp>
#include <seqpar/kernel/flash/fold_in_place.hpp>
#include <seqpar/kernel/flash/fold_pairs.hpp>
#include <seqpar/kernel/flash/gradient.hpp>
#include <seqpar/kernel/flash/instruction_set.hpp>
#include <seqpar/kernel/flash/packing.hpp>

#include <cstddef>
#include <type_traits>

namespace seqpar::flash_detail {

inline constexpr std::size_t most_panel_keys = 48;

/// The code of one instruction set for one storage type as plain functions, and the shapes in which it wants its data.
template <class T>
struct engine {
    using A = accumulator_t<T>;

    index_t lanes;      ///< of a vector
    index_t panel_keys; ///< keys of a panel of k
    index_t tile_rows;  ///< rows of a tile of forward
    index_t weights;    ///< elements of its scratch for scores and weights
    void (*fold)(const tile<A>&, const stretch<A>&);
    void (*fold_in_place)(const tile<A>&, const keys_in_place<T>&); ///< the same for few rows; null: never
    void (*fold_changed)(const tile<A>&, const stretch<A>&);        ///< where the score changes values
    void (*key_gradients)(const gradient_tile<A>&);                 ///< P, dS, dk, dv
    void (*key_gradients_changed)(const gradient_tile<A>&);
    void (*row_gradients)(const gradient_tile<A>&); ///< then dq
    index_t packing; ///< elements of q, k and v that lie side by side in sizeof(A) bytes: 1 in A, or 2 in bfloat16
    index_t k_step;  ///< a panel of k has zeros up to a multiple of so many dims
    /// count elements times factor, then zeros; tells whether all are finite
    bool (*copy_row)(const T* from, index_t step, index_t count, A factor, A* to, index_t columns);
    /// the same of a row of q, as forward wants it
    bool (*copy_query)(const T* from, index_t step, index_t count, A factor, A* to, index_t columns);
    /// k of a panel's keys
    void (*transpose_rows)(const T* const* rows, const index_t* steps, index_t dim, A* panel);
    /// v of a panel's keys; tells whether all are finite
    bool (*copy_rows)(const T* const* rows, const index_t* steps, index_t dim, A* to, index_t columns);
    void (*add_lanes)(A* sums, index_t rows); ///< sums: [rows][lanes], into the first lane
    void (*blend_row)(A* to, A mine, const A* other, A theirs, index_t count); ///< to = to * mine + other * theirs

    [[nodiscard]] index_t keys_of_panel(index_t dim) const noexcept {
        return panel_keys * ((dim + k_step - 1) / k_step * k_step / packing);
    }
    /// From a key's values to the next one's. Steps of whole powers of two would crowd into a few sets of the first cache.
    [[nodiscard]] index_t value_step(index_t columns) const noexcept {
        constexpr index_t crowd = 512 / static_cast<index_t>(sizeof(A));
        return columns % crowd == 0 ? columns + lanes : columns;
    }
    [[nodiscard]] index_t values_of_panel(index_t columns) const noexcept {
        return panel_keys / packing * value_step(columns);
    }
};

template <class Target, class T>
[[nodiscard]] engine<T> engine_of() noexcept {
    using A = accumulator_t<T>;
    using S = typename Target::template simd_of<A>;
    static_assert(S::panel_keys <= most_panel_keys);
    const index_t rows = caches().first >= 48 * 1024 ? most_tile_rows : least_tile_rows;
    return {S::lanes,
            S::panel_keys,
            rows,
            rows * block_keys,
            &Target::template fold<false, A>,
            &Target::template fold_in_place<T>,
            &Target::template fold<true, A>,
            &Target::template key_gradients<false, A>,
            &Target::template key_gradients<true, A>,
            &Target::template row_gradients<A>,
            1,
            1,
            &Target::template copy<T>,
            &Target::template copy<T>,
            &Target::template transpose<T>,
            &Target::template copy_all<T>,
            &Target::template total<A>,
            &Target::template blend<A>};
}

/// A target: vectors that suit its registers, and the functions that are compiled for it. 16 registers hold 4 x 3
/// or 6 x 2 accumulators and their operands, 32 hold 8 x 3 or 6 x 4.
struct baseline_target {
#if defined(__aarch64__)
    template <class A>
    using simd_of = simd<A, 16, 8, 4>;
#else
    template <class A>
    using simd_of = simd<A, 16, 4, 2>;
#endif
    template <bool Changes, class A>
    static void fold(const tile<A>& t, const stretch<A>& s) {
        fold_panels<baseline_target, Changes>(t, s);
    }
    template <class T>
    static void fold_in_place(const tile<accumulator_t<T>>& t, const keys_in_place<T>& s) {
        fold_keys_in_place<baseline_target>(t, s);
    }
    template <bool Changes, class A>
    static void key_gradients(const gradient_tile<A>& t) {
        add_key_gradients<baseline_target, Changes>(t);
    }
    template <class A>
    static void row_gradients(const gradient_tile<A>& t) {
        add_row_gradients<baseline_target>(t);
    }
    template <class A>
    [[gnu::noinline]] static void raise(const A* x, A* weights, index_t done, A* reference, A* sums, A* acc,
                                        index_t columns) {
        raise_reference<simd_of<A>>(x, weights, done, reference, sums, acc, columns);
    }
    template <class T>
    static bool copy(const T* from, index_t step, index_t count, accumulator_t<T> factor, accumulator_t<T>* to,
                     index_t columns) {
        return copy_row<simd_of<accumulator_t<T>>>(from, step, count, factor, to, columns);
    }
    template <class T>
    static void transpose(const T* const* rows, const index_t* steps, index_t dim, accumulator_t<T>* panel) {
        transpose_rows<simd_of<accumulator_t<T>>>(rows, steps, dim, panel);
    }
    template <class T>
    static bool copy_all(const T* const* rows, const index_t* steps, index_t dim, accumulator_t<T>* to,
                         index_t columns) {
        return copy_rows<simd_of<accumulator_t<T>>>(rows, steps, dim, to, columns);
    }
    template <class A>
    static void total(A* sums, index_t rows) {
        add_lanes_of_rows<simd_of<A>>(sums, rows);
    }
    template <class A>
    static void blend(A* to, A mine, const A* other, A theirs, index_t count) {
        blend_row<simd_of<A>>(to, mine, other, theirs, count);
    }
};

#if defined(__x86_64__) || defined(__i386__)
struct avx2_target {
    template <class A>
    using simd_of = simd<A, 32, 4, 2>;

    template <bool Changes, class A>
    [[gnu::target("avx2,fma")]] static void fold(const tile<A>& t, const stretch<A>& s) {
        fold_panels<avx2_target, Changes>(t, s);
    }
    template <class T>
    [[gnu::target("avx2,fma")]] static void fold_in_place(const tile<accumulator_t<T>>& t, const keys_in_place<T>& s) {
        fold_keys_in_place<avx2_target>(t, s);
    }
    template <bool Changes, class A>
    [[gnu::target("avx2,fma")]] static void key_gradients(const gradient_tile<A>& t) {
        add_key_gradients<avx2_target, Changes>(t);
    }
    template <class A>
    [[gnu::target("avx2,fma")]] static void row_gradients(const gradient_tile<A>& t) {
        add_row_gradients<avx2_target>(t);
    }
    template <class A>
    [[gnu::noinline, gnu::target("avx2,fma")]] static void raise(const A* x, A* weights, index_t done, A* reference,
                                                                 A* sums, A* acc, index_t columns) {
        raise_reference<simd_of<A>>(x, weights, done, reference, sums, acc, columns);
    }
    template <class T>
    [[gnu::target("avx2,fma")]] static bool copy(const T* from, index_t step, index_t count, accumulator_t<T> factor,
                                                 accumulator_t<T>* to, index_t columns) {
        return copy_row<simd_of<accumulator_t<T>>>(from, step, count, factor, to, columns);
    }
    template <class T>
    [[gnu::target("avx2,fma")]] static void transpose(const T* const* rows, const index_t* steps, index_t dim,
                                                      accumulator_t<T>* panel) {
        transpose_rows<simd_of<accumulator_t<T>>>(rows, steps, dim, panel);
    }
    template <class T>
    [[gnu::target("avx2,fma")]] static bool copy_all(const T* const* rows, const index_t* steps, index_t dim,
                                                     accumulator_t<T>* to, index_t columns) {
        return copy_rows<simd_of<accumulator_t<T>>>(rows, steps, dim, to, columns);
    }
    template <class A>
    [[gnu::target("avx2,fma")]] static void total(A* sums, index_t rows) {
        add_lanes_of_rows<simd_of<A>>(sums, rows);
    }
    template <class A>
    [[gnu::target("avx2,fma")]] static void blend(A* to, A mine, const A* other, A theirs, index_t count) {
        blend_row<simd_of<A>>(to, mine, other, theirs, count);
    }
};

struct avx512_target {
    template <class A>
    using simd_of = simd<A, 64, 8, 4>;

    template <bool Changes, class A>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void fold(const tile<A>& t, const stretch<A>& s) {
        fold_panels<avx512_target, Changes>(t, s);
    }
    template <class T>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void fold_in_place(const tile<accumulator_t<T>>& t,
                                                                                        const keys_in_place<T>& s) {
        fold_keys_in_place<avx512_target>(t, s);
    }
    template <bool Changes, class A>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void key_gradients(const gradient_tile<A>& t) {
        add_key_gradients<avx512_target, Changes>(t);
    }
    template <class A>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void row_gradients(const gradient_tile<A>& t) {
        add_row_gradients<avx512_target>(t);
    }
    template <class A>
    [[gnu::noinline, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void
    raise(const A* x, A* weights, index_t done, A* reference, A* sums, A* acc, index_t columns) {
        raise_reference<simd_of<A>>(x, weights, done, reference, sums, acc, columns);
    }
    template <class T>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static bool
    copy(const T* from, index_t step, index_t count, accumulator_t<T> factor, accumulator_t<T>* to, index_t columns) {
        return copy_row<simd_of<accumulator_t<T>>>(from, step, count, factor, to, columns);
    }
    template <class T>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void
    transpose(const T* const* rows, const index_t* steps, index_t dim, accumulator_t<T>* panel) {
        transpose_rows<simd_of<accumulator_t<T>>>(rows, steps, dim, panel);
    }
    template <class T>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static bool
    copy_all(const T* const* rows, const index_t* steps, index_t dim, accumulator_t<T>* to, index_t columns) {
        return copy_rows<simd_of<accumulator_t<T>>>(rows, steps, dim, to, columns);
    }
    template <class A>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void total(A* sums, index_t rows) {
        add_lanes_of_rows<simd_of<A>>(sums, rows);
    }
    template <class A>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void blend(A* to, A mine, const A* other, A theirs,
                                                                                index_t count) {
        blend_row<simd_of<A>>(to, mine, other, theirs, count);
    }
};
#endif

#if defined(__x86_64__) || defined(__i386__)
/// avx512_target with products of bfloat16.
struct avx512_bf16_target : avx512_target {
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] static void
    fold_pairs(const tile<float>& t, const stretch<float>& s) {
        flash_detail::fold_pairs<avx512_target>(t, s);
    }
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] static void
    fold_pairs_in_place(const tile<float>& t, const keys_in_place<bfloat16>& s) {
        flash_detail::fold_pairs_in_place<avx512_target>(t, s);
    }
    static bool copy_query(const bfloat16* from, index_t step, index_t count, float, float* to, index_t columns) {
        copy_pairs(from, step, count, reinterpret_cast<pair*>(to), columns);
        return true;
    }
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] static void
    transpose(const bfloat16* const* rows, const index_t* steps, index_t dim, float* panel) {
        transpose_pairs<pair_simd::panel_keys>(rows, steps, dim, (dim + 1) / 2, reinterpret_cast<pair*>(panel));
    }
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] static bool
    copy_all(const bfloat16* const* rows, const index_t* steps, index_t dim, float* to, index_t columns) {
        return interleave_pairs<pair_simd::panel_keys>(rows, steps, dim, reinterpret_cast<pair*>(to), columns);
    }
};
#endif

#if defined(__x86_64__) && defined(__linux__)
/// avx512_bf16_target with products of matrices.
struct amx_target : avx512_bf16_target {
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16")]] static void
    fold(const tile<float>& t, const stretch<float>& s) {
        fold_amx(t, s);
    }
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] static void
    transpose(const bfloat16* const* rows, const index_t* steps, index_t dim, float* panel) {
        transpose_pairs<amx_simd::panel_keys>(rows, steps, dim, amx_steps(dim) * amx_pairs,
                                              reinterpret_cast<pair*>(panel));
    }
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")]] static bool
    copy_all(const bfloat16* const* rows, const index_t* steps, index_t dim, float* to, index_t columns) {
        return interleave_pairs<amx_simd::panel_keys>(rows, steps, dim, reinterpret_cast<pair*>(to), columns);
    }
};
#endif

/// The engine of a set that is_supported() and not automatic. products_in_float: whatever the set could do in bfloat16, as
/// backward and scores that change values want it.
template <class T>
[[nodiscard]] engine<T> engine_for([[maybe_unused]] instruction_set set,
                                   [[maybe_unused]] bool products_in_float) noexcept {
#if defined(__x86_64__) || defined(__i386__)
    if (vectors_of(set) == instruction_set::avx512) {
        engine<T> code = engine_of<avx512_target, T>();
        if constexpr (std::is_same_v<T, bfloat16>) {
            if (set == instruction_set::avx512_bf16 && !products_in_float) {
                using target = avx512_bf16_target;
                code.packing = code.k_step = 2;
                code.fold = &target::fold_pairs;
                code.fold_in_place = &target::fold_pairs_in_place;
                code.copy_query = &target::copy_query;
                code.transpose_rows = &target::transpose;
                code.copy_rows = &target::copy_all;
            }
#if defined(__x86_64__) && defined(__linux__)
            if (set == instruction_set::amx_bf16 && !products_in_float) {
                using target = amx_target;
                code.panel_keys = amx_simd::panel_keys;
                code.tile_rows = most_tile_rows;
                code.weights = amx_scratch;
                code.packing = 2;
                code.k_step = 2 * amx_pairs;
                code.fold = &target::fold;
                code.fold_in_place = nullptr;
                code.copy_query = &target::copy_query;
                code.transpose_rows = &target::transpose;
                code.copy_rows = &target::copy_all;
            }
#endif
        }
        return code;
    }
    if (set == instruction_set::avx2) return engine_of<avx2_target, T>();
#endif
    return engine_of<baseline_target, T>();
}

} // namespace seqpar::flash_detail
