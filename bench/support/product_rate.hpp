/// @file
/// How fast the kernel's products are when all that they read is in the first-level cache. Beside the multiply-add peak, which
/// reads nothing, this tells whether somebody else runs on the same core: two hardware threads share its caches and loads, of
/// which multiply-adds in registers notice nothing.
#pragma once

#include "fma_peak.hpp"

#include <algorithm>
#include <array>

namespace bench {

/// A register tile of scores, head_dim 128, again and again: 28 KB are read.
struct tile_of_scores {
    static constexpr int dim = 128;

    /// Floating-point operations, two to a multiply-add.
    template <class S>
    [[nodiscard]] static constexpr double amount() noexcept {
        return 2.0 * S::score_rows * S::panel_keys * dim;
    }
    template <class S>
    [[gnu::always_inline]] inline void run(long rounds) const {
        constexpr int rows = S::score_rows, keys = S::panel_keys;
        alignas(64) float in[(rows + keys) * dim], x[rows * keys];
        for (int i = 0; i < (rows + keys) * dim; ++i) in[i] = static_cast<float>(i % 7 - 3);
        keep(in);
        for (long n = 0; n < rounds; ++n) {
            seqpar::flash_detail::store_products<S>(in, dim, 1, in + rows * dim, dim, x, keys);
            keep(x);
        }
    }
};

/// What loads leave of the multiply-add peak now: the median of five, of 2 ms each, in turns.
[[nodiscard]] inline double share_of_products(seqpar::instruction_set set) {
    const timed_loop peak = multiply_adds<float>(set), with_loads = compiled_for<float>(set, tile_of_scores{});
    const long peak_rounds = peak.rounds_for(1e-3), rounds = with_loads.rounds_for(1e-3);
    std::array<double, 5> shares{};
    for (double& share : shares) share = with_loads.rate(rounds) / peak.rate(peak_rounds);
    std::sort(shares.begin(), shares.end());
    return shares[shares.size() / 2];
}

} // namespace bench
