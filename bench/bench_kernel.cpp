/// @file
/// The kernels on one core: flash, full and causal, against the multiply-add peak that is measured just before each;
/// the definition for scale. `of_peak` counts useful operations only: 4 head_dim for each score that is seen, none
/// for exp.

#include "support/fma_peak.hpp"

#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <ctime>
#include <random>
#include <span>
#include <string>

namespace {

using namespace seqpar;

template <class T>
tensor<T> normal(const extents& e, unsigned seed) {
    tensor<T> x(e);
    std::mt19937 bits(seed);
    std::normal_distribution<float> distribution;
    for (index_t i = 0; i < e.count(); ++i) x.data()[i] = static_cast<T>(distribution(bits));
    return x;
}

/// One head of n rows and n keys.
template <class T, class K>
void forward(benchmark::State& state, const K& kernel, instruction_set peak_of, const any_score& score, index_t n,
             index_t dim) {
    using A = accumulator_t<T>;
    const extents e{1, n, 1, dim};
    const tensor<T> q = normal<T>(e, 1), k = normal<T>(e, 2), v = normal<T>(e, 3);
    const origin at{positions::whole(n), {0, 1}};
    const key_block<T> keys{k.view(), v.view(), at};
    context how;
    how.scale = 1 / std::sqrt(static_cast<double>(dim));
    how.n = {n, n};
    double seen = 0;
    for (index_t i = 0; i < n; ++i) {
        const interval sight = score.visible(how.n, position{i}, at.rows.runs().front());
        seen += static_cast<double>(sight.last - sight.first);
    }

    partial<A> result(e);
    const double peak = bench::fma_peak<A>(peak_of);
    const std::clock_t begin = std::clock(); // of the processor, as the peak is: other programs do not count
    for (auto _ : state) {
        kernel.forward(how, block<const T>{q.view(), at}, std::span<const key_block<T>>(&keys, 1), score, result);
        benchmark::DoNotOptimize(result.acc().data());
        benchmark::ClobberMemory();
    }
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    const double speed = 4 * static_cast<double>(dim) * seen * static_cast<double>(state.iterations()) / seconds;
    state.counters["GFLOP/s"] = speed / 1e9;
    state.counters["of_peak"] = speed / peak;
    state.counters["peak"] = peak / 1e9;
}

template <class T>
void add_flash(instruction_set set, const any_score& score, index_t n, index_t dim) {
    const std::string name = "flash/" + std::string(to_string(set)) + '/' + std::string(element_traits<T>::name) + '/' +
                             (score.name() == full{}.name() ? "full" : "causal") + "/d" + std::to_string(dim) + "/n" +
                             std::to_string(n);
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
        forward<T>(state, flash{set}, set, score, n, dim);
    })->Unit(benchmark::kMillisecond);
}

void add_all() {
    for (const index_t dim : {64, 128})
        for (const any_score& score : {any_score(full{}), any_score(causal{})}) {
            for (const index_t n : {1024, 2048, 4096, 8192, 16384})
                add_flash<float>(best_instruction_set(), score, n, dim);
            add_flash<bfloat16>(best_instruction_set(), score, 4096, dim);
            add_flash<double>(best_instruction_set(), score, 4096, dim);
            for (const instruction_set set : {instruction_set::baseline, instruction_set::avx2})
                if (set != best_instruction_set() && is_supported(set)) add_flash<float>(set, score, 4096, dim);
        }
    for (const index_t n : {256, 1024})
        benchmark::RegisterBenchmark(("reference/float/full/d64/n" + std::to_string(n)).c_str(),
                                     [=](benchmark::State& state) {
                                         forward<float>(state, reference{}, instruction_set::baseline, full{}, n, 64);
                                     })
            ->Unit(benchmark::kMillisecond);
}

} // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    add_all();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
