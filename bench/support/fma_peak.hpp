/// @file
/// How many multiply-adds this core can do: the limit that a kernel's speed is measured against.
#pragma once

#include "compiled_for.hpp"

namespace bench {

/// acc[.] = acc[.] * x + x, `chains` independent vectors that never leave the registers.
template <class A>
struct multiply_add_chains {
    /// At least latency x ports, and no more than the registers hold.
    template <class S>
    static constexpr int chains = S::lanes * sizeof(A) == 64 ? 24 : 12;

    /// Floating-point operations, two to a multiply-add.
    template <class S>
    [[nodiscard]] static constexpr double amount() noexcept {
        return 2.0 * chains<S> * S::lanes;
    }
    template <class S>
    [[gnu::always_inline]] inline void run(long rounds) const {
        using vector = typename S::vector;
        alignas(64) A out[chains<S> * S::lanes];
        volatile A half = static_cast<A>(0.5);
        const vector factor = half - vector{};
        vector acc[chains<S>];
#pragma GCC unroll 24
        for (int i = 0; i < chains<S>; ++i) acc[i] = static_cast<A>(i) - vector{};
        for (long n = 0; n < rounds; ++n) {
#pragma GCC unroll 24
            for (int i = 0; i < chains<S>; ++i) acc[i] = acc[i] * factor + factor;
        }
#pragma GCC unroll 24
        for (int i = 0; i < chains<S>; ++i) seqpar::flash_detail::store<S>(out + i * S::lanes) = acc[i];
        keep(out);
    }
};

/// Multiply-adds in registers with an instruction set.
template <class A>
[[nodiscard]] timed_loop multiply_adds(seqpar::instruction_set set) {
    return compiled_for<A>(set, multiply_add_chains<A>{});
}

/// Floating-point operations a second of one core.
template <class A>
[[nodiscard]] double fma_peak(seqpar::instruction_set set) {
    return multiply_adds<A>(set).best_rate();
}

} // namespace bench
