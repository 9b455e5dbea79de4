/// @file
/// How fast the kernel's products are when all that they read is in the first-level cache. Beside the multiply-add peak, which
/// reads nothing, this tells whether somebody else runs on the same core: two hardware threads share its caches and loads, of
/// which multiply-adds in registers notice nothing.
#pragma once

#include "fma_peak.hpp"
#include "timed_loop.hpp"

#include <seqpar/kernel/flash/engine.hpp>

#include <algorithm>
#include <array>

namespace bench {

/// A register tile of scores, head_dim 128, again and again: 28 KB are read.
template <class S>
[[gnu::always_inline]] inline void multiply_tile(long rounds, const typename S::value_type* in,
                                                 typename S::value_type* x) {
    constexpr seqpar::index_t dim = 128;
    for (long n = 0; n < rounds; ++n)
        seqpar::flash_detail::store_products<S>(in, dim, 1, in + S::score_rows * dim, dim, x, S::panel_keys);
}

struct baseline_products {
    using simd = seqpar::flash_detail::baseline_target::simd_of<float>;
    static void run(long rounds, const float* in, float* x) { multiply_tile<simd>(rounds, in, x); }
};
#if defined(__x86_64__) || defined(__i386__)
struct avx2_products {
    using simd = seqpar::flash_detail::avx2_target::simd_of<float>;
    [[gnu::target("avx2,fma")]] static void run(long rounds, const float* in, float* x) {
        multiply_tile<simd>(rounds, in, x);
    }
};
struct avx512_products {
    using simd = seqpar::flash_detail::avx512_target::simd_of<float>;
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void run(long rounds, const float* in, float* x) {
        multiply_tile<simd>(rounds, in, x);
    }
};
#endif

/// The kernel's products with an instruction set, in float; the amount is floating-point operations, two to a multiply-add.
[[nodiscard]] inline timed_loop products(seqpar::instruction_set set) {
    const auto of = [](auto target) {
        using P = decltype(target);
        using S = typename P::simd;
        static constexpr int dim = 128, rows = S::score_rows, keys = S::panel_keys;
        const auto again = [](long rounds) {
            alignas(64) float in[(rows + keys) * dim], x[rows * keys];
            for (int i = 0; i < (rows + keys) * dim; ++i) in[i] = static_cast<float>(i % 7 - 3);
            P::run(rounds, in, x);
            keep(x);
        };
        return timed_loop{again, 2.0 * rows * keys * dim};
    };
#if defined(__x86_64__) || defined(__i386__)
    if (vectors_of(set) == seqpar::instruction_set::avx512) return of(avx512_products{});
    if (set == seqpar::instruction_set::avx2) return of(avx2_products{});
#endif
    return of(baseline_products{});
}

/// What loads leave of the multiply-add peak now: the median of five, of 2 ms each, in turns.
[[nodiscard]] inline double share_of_products(seqpar::instruction_set set) {
    const timed_loop peak = multiply_adds<float>(set), with_loads = products(set);
    const long peak_rounds = peak.rounds_for(1e-3), rounds = with_loads.rounds_for(1e-3);
    std::array<double, 5> shares{};
    for (double& share : shares) share = with_loads.rate(rounds) / peak.rate(peak_rounds);
    std::sort(shares.begin(), shares.end());
    return shares[shares.size() / 2];
}

} // namespace bench
