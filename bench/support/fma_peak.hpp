/// @file
/// How many multiply-adds this core can do: the limit that a kernel's speed is measured against.
#pragma once

#include "timed_loop.hpp"

#include <seqpar/kernel/flash/instruction_set.hpp>
#include <seqpar/kernel/flash/simd.hpp>

namespace bench {

/// acc[.] = acc[.] * x + y, `rounds` times, `Chains` independent vectors that never leave the registers.
template <class S, int Chains>
[[gnu::always_inline]] inline void multiply_add_chains(long rounds, typename S::value_type x,
                                                       typename S::value_type* out) {
    using vector = typename S::vector;
    vector acc[Chains];
#pragma GCC unroll 24
    for (int i = 0; i < Chains; ++i) acc[i] = static_cast<typename S::value_type>(i) - vector{};
    const vector factor = x - vector{};
    for (long n = 0; n < rounds; ++n) {
#pragma GCC unroll 24
        for (int i = 0; i < Chains; ++i) acc[i] = acc[i] * factor + factor;
    }
#pragma GCC unroll 24
    for (int i = 0; i < Chains; ++i) seqpar::flash_detail::store<S>(out + i * S::lanes) = acc[i];
}

/// Chains: at least latency x ports, and no more than the registers hold.
struct baseline_peak {
    template <class A>
    static void run(long rounds, A x, A* out) {
        multiply_add_chains<seqpar::flash_detail::simd<A, 16, 4, 2>, 12>(rounds, x, out);
    }
};
#if defined(__x86_64__) || defined(__i386__)
struct avx2_peak {
    template <class A>
    [[gnu::target("avx2,fma")]] static void run(long rounds, A x, A* out) {
        multiply_add_chains<seqpar::flash_detail::simd<A, 32, 4, 2>, 12>(rounds, x, out);
    }
};
struct avx512_peak {
    template <class A>
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void run(long rounds, A x, A* out) {
        multiply_add_chains<seqpar::flash_detail::simd<A, 64, 8, 4>, 24>(rounds, x, out);
    }
};
#endif

/// Multiply-adds in registers with an instruction set; the amount is floating-point operations, two to a multiply-add.
template <class A>
[[nodiscard]] timed_loop multiply_adds(seqpar::instruction_set set) {
    void (*run)(long, A, A*) = &baseline_peak::run<A>;
    double chains = 12, bytes = 16; // of a vector
#if defined(__x86_64__) || defined(__i386__)
    if (set == seqpar::instruction_set::avx2) run = &avx2_peak::run<A>, bytes = 32;
    if (vectors_of(set) == seqpar::instruction_set::avx512) run = &avx512_peak::run<A>, chains = 24, bytes = 64;
#endif
    const auto again = [run](long rounds) {
        alignas(64) A out[24 * 16];
        volatile A half = static_cast<A>(0.5);
        run(rounds, half, out);
        keep(out);
    };
    return {again, 2 * chains * bytes / sizeof(A)};
}

/// Floating-point operations a second of one core.
template <class A>
[[nodiscard]] double fma_peak(seqpar::instruction_set set) {
    return multiply_adds<A>(set).best_rate();
}

} // namespace bench
