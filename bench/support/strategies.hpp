/// @file
/// One sharded attention, timed: shared by the benchmarks on threads and on MPI.
#pragma once

#include "fma_peak.hpp"

#include <seqpar/seqpar.hpp>

#include <algorithm>
#include <chrono>
#include <random>
#include <string>
#include <vector>

namespace bench {

/// What is computed on one sequence of `tokens` rows.
struct sharded_case {
    seqpar::index_t tokens, heads, kv_heads, dim;
    bool causal;

    /// Two multiply-adds for each pair that is seen, head and component.
    [[nodiscard]] double flops() const {
        const double n = static_cast<double>(tokens), pairs = causal ? n * (n + 1) / 2 : n * n;
        return 4 * pairs * static_cast<double>(heads * dim);
    }
};

/// Seconds that one forward takes, the maximum over ranks. Collective. The first call is not timed.
template <class C, class Strategy>
[[nodiscard]] std::vector<double> seconds_of(C world, const Strategy& strategy, const sharded_case& c,
                                             int repetitions) {
    using namespace seqpar;
    const any_score score = c.causal ? any_score(causal{}) : any_score(full{});
    attention attend{world, strategy, zigzag{}, score, any_kernel(flash{}), options{.lse = false}};
    const index_t rows = zigzag{}.positions(world.rank(), world.size(), c.tokens).size();
    std::mt19937 random(static_cast<unsigned>(world.rank()));
    std::normal_distribution<float> normal;
    tensor<float> q({1, rows, c.heads, c.dim}), k({1, rows, c.kv_heads, c.dim}), v({1, rows, c.kv_heads, c.dim});
    for (tensor<float>* x : {&q, &k, &v})
        std::generate_n(x->data(), x->shape().count(), [&] { return normal(random); });

    std::vector<double> slowest;
    for (int n = 0; n <= repetitions; ++n) {
        collective::barrier(world);
        const auto start = std::chrono::steady_clock::now();
        static_cast<void>(attend.forward(q, k, v));
        const double mine = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        std::vector<double> all(static_cast<std::size_t>(world.size()));
        collective::all_gather_doubling(world, outgoing{reinterpret_cast<const std::byte*>(&mine), sizeof mine},
                                        reinterpret_cast<std::byte*>(all.data()));
        if (n > 0) slowest.push_back(*std::max_element(all.begin(), all.end()));
    }
    return slowest;
}

/// The largest rate that `cores` cores have, in flop/s.
[[nodiscard]] inline double peak_of(int cores) {
    return static_cast<double>(cores) * fma_peak<float>(seqpar::best_instruction_set());
}

} // namespace bench
