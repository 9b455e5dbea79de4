#pragma once

#include <seqpar/kernel/flash/fold.hpp>
#include <seqpar/kernel/flash/gradient.hpp>
#include <seqpar/kernel/flash/instruction_set.hpp>

namespace seqpar::flash_detail {

/// The code of one instruction set as plain functions, and the shapes in which it wants its data.
template <class A>
struct engine {
    index_t lanes;      ///< of a vector
    index_t panel_keys; ///< keys of a panel of k
    index_t group_rows; ///< rows of a group of q
    void (*fold)(const tile<A>&, const stretch<A>&);
    void (*fold_changed)(const tile<A>&, const stretch<A>&); ///< where the score changes values
    void (*key_gradients)(const gradient_tile<A>&);          ///< P, dS, dk, dv
    void (*key_gradients_changed)(const gradient_tile<A>&);
    void (*row_gradients)(const gradient_tile<A>&); ///< then dq
};

template <class Target, class A>
[[nodiscard]] constexpr engine<A> engine_of() noexcept {
    using S = typename Target::template simd_of<A>;
    return {S::lanes,
            S::panel_keys,
            S::score_rows,
            &Target::template fold<false, A>,
            &Target::template fold<true, A>,
            &Target::template key_gradients<false, A>,
            &Target::template key_gradients<true, A>,
            &Target::template row_gradients<A>};
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
};

#if defined(__x86_64__) || defined(__i386__)
struct avx2_target {
    template <class A>
    using simd_of = simd<A, 32, 4, 2>;

    template <bool Changes, class A>
    [[gnu::target("avx2,fma")]] static void fold(const tile<A>& t, const stretch<A>& s) {
        fold_panels<avx2_target, Changes>(t, s);
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
};

struct avx512_target {
    template <class A>
    using simd_of = simd<A, 64, 8, 4>;

    template <bool Changes, class A>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void fold(const tile<A>& t, const stretch<A>& s) {
        fold_panels<avx512_target, Changes>(t, s);
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
};
#endif

/// The engine of a set that is_supported() and not automatic.
template <class A>
[[nodiscard]] engine<A> engine_for([[maybe_unused]] instruction_set set) noexcept {
#if defined(__x86_64__) || defined(__i386__)
    if (set == instruction_set::avx512) return engine_of<avx512_target, A>();
    if (set == instruction_set::avx2) return engine_of<avx2_target, A>();
#endif
    return engine_of<baseline_target, A>();
}

} // namespace seqpar::flash_detail
