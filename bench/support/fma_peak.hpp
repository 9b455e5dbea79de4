/// @file
/// How many multiply-adds this core can do: the limit that a kernel's speed is measured against.
#pragma once

#include "best_rate.hpp"

#include <seqpar/kernel/flash/engine.hpp>

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

/// Floating-point operations a second (two to a multiply-add) of one core with an instruction set: the best of five
/// times 10 ms.
template <class A>
[[nodiscard]] double fma_peak(seqpar::instruction_set set) {
    alignas(64) A out[24 * 16];
    void (*run)(long, A, A*) = &baseline_peak::run<A>;
    long chains = 12;
#if defined(__x86_64__) || defined(__i386__)
    if (set == seqpar::instruction_set::avx2) run = &avx2_peak::run<A>;
    if (vectors_of(set) == seqpar::instruction_set::avx512) run = &avx512_peak::run<A>, chains = 24;
#endif
    const double lanes = static_cast<double>(seqpar::flash_detail::engine_for<A>(set, true).lanes);
    volatile A half = static_cast<A>(0.5);
    return best_rate(2.0 * static_cast<double>(chains) * lanes, [&](long rounds) { run(rounds, half, out); });
}

} // namespace bench
