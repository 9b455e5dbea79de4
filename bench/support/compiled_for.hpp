/// @file
/// Loops compiled for each instruction set, as the kernel is.
#pragma once

#include "timed_loop.hpp"

#include <seqpar/kernel/flash/engine.hpp>

namespace bench {

/// loop.run<S>(rounds) where S are an instruction set's vectors of A. `run` is always_inline: only what ends up in these
/// functions is compiled for the set.
template <class A, class Loop>
struct in_instruction_set {
    static void baseline(const Loop& loop, long rounds) {
        loop.template run<seqpar::flash_detail::baseline_target::simd_of<A>>(rounds);
    }
#if defined(__x86_64__) || defined(__i386__)
    [[gnu::target("avx2,fma")]] static void avx2(const Loop& loop, long rounds) {
        loop.template run<seqpar::flash_detail::avx2_target::simd_of<A>>(rounds);
    }
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void avx512(const Loop& loop, long rounds) {
        loop.template run<seqpar::flash_detail::avx512_target::simd_of<A>>(rounds);
    }
#endif
};

/// A loop for an instruction set that the processor has; the amount is loop.amount<S>().
template <class A, class Loop>
[[nodiscard]] timed_loop compiled_for([[maybe_unused]] seqpar::instruction_set set, const Loop& loop) {
    using compiled = in_instruction_set<A, Loop>;
    const auto take = [&]<class Target>(Target, void (*run)(const Loop&, long)) {
        return timed_loop{[loop, run](long rounds) { run(loop, rounds); },
                          loop.template amount<typename Target::template simd_of<A>>()};
    };
#if defined(__x86_64__) || defined(__i386__)
    if (vectors_of(set) == seqpar::instruction_set::avx512)
        return take(seqpar::flash_detail::avx512_target{}, &compiled::avx512);
    if (set == seqpar::instruction_set::avx2) return take(seqpar::flash_detail::avx2_target{}, &compiled::avx2);
#endif
    return take(seqpar::flash_detail::baseline_target{}, &compiled::baseline);
}

} // namespace bench
