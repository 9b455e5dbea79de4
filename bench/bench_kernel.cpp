/// @file
/// The kernels on one core: flash, full and causal, against the multiply-add peak that is measured just before each;
/// the definition for scale. `of_peak` counts useful operations only: 4 head_dim for each score that is seen, 10 for
/// backward, none for exp.

#include "support/fma_peak.hpp"
#include "support/kernel_parts.hpp"
#include "support/normal.hpp"

#include <seqpar/kernel/delta.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <ctime>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace seqpar;
using bench::normal;

/// How many scores of n rows and n keys are seen.
double scores_seen(const any_score& score, index_t n) {
    double seen = 0;
    for (index_t i = 0; i < n; ++i) {
        const interval sight = score.visible({n, n}, position{i}, run{position{0}, 1, n});
        seen += static_cast<double>(sight.last - sight.first);
    }
    return seen;
}

/// `once` for every iteration, against the multiply-add peak of the instruction set: `operations` to a call.
template <class A, class F>
void measure(benchmark::State& state, instruction_set peak_of, double operations, const F& once) {
    const double peak = bench::fma_peak<A>(peak_of);
    const std::clock_t begin = std::clock(); // of the processor, as the peak is: other programs do not count
    for (auto _ : state) {
        once();
        benchmark::ClobberMemory();
    }
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    const double speed = operations * static_cast<double>(state.iterations()) / seconds;
    state.counters["GFLOP/s"] = speed / 1e9;
    state.counters["of_peak"] = speed / peak;
    state.counters["peak"] = peak / 1e9;
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
    partial<A> result(e);
    measure<A>(state, peak_of, 4 * static_cast<double>(dim) * scores_seen(score, n), [&] {
        kernel.forward(how, block<const T>{q.view(), at}, std::span<const key_block<T>>(&keys, 1), score, result);
        benchmark::DoNotOptimize(result.acc().data());
    });
}

/// The gradients of the same.
template <class T, class K>
void backward(benchmark::State& state, const K& kernel, instruction_set peak_of, const any_score& score, index_t n,
              index_t dim) {
    using A = accumulator_t<T>;
    const extents e{1, n, 1, dim}, per_row{1, n, 1, 1};
    const tensor<T> q = normal<T>(e, 1), k = normal<T>(e, 2), v = normal<T>(e, 3), dout = normal<T>(e, 4);
    const origin at{positions::whole(n), {0, 1}};
    const key_block<T> keys{k.view(), v.view(), at};
    context how;
    how.scale = 1 / std::sqrt(static_cast<double>(dim));
    how.n = {n, n};
    tensor<T> out(e);
    tensor<A> lse(per_row), delta(per_row), dq(e), dk(e), dv(e);
    partial<A> result(e);
    flash{}.forward(how, block<const T>{q.view(), at}, std::span<const key_block<T>>(&keys, 1), score, result);
    result.finish(out.view(), lse.view());
    row_delta<T>(out.view(), dout.view(), {}, delta.view());
    const row_gradients<T> rows{dout.view(), lse.view(), delta.view()};
    const key_gradients<A> dkv{dk.view(), dv.view()};
    measure<A>(state, peak_of, 10 * static_cast<double>(dim) * scores_seen(score, n), [&] {
        kernel.backward(how, block<const T>{q.view(), at}, rows, std::span<const key_block<T>>(&keys, 1), score,
                        dq.view(), std::span<const key_gradients<A>>(&dkv, 1));
        benchmark::DoNotOptimize(dq.data());
    });
}

/// A part of forward, from the second-level cache.
void part(benchmark::State& state, instruction_set set, const bench::timed_loop& loop) {
    const long rounds = loop.rounds_for(1e-3);
    measure<float>(state, set, loop.amount * static_cast<double>(rounds), [&] { loop.run(rounds); });
}

void add_parts(instruction_set set, index_t dim) {
    const std::string name = std::string(to_string(set)) + "/d" + std::to_string(dim);
    const auto add = [&](const std::string& what, auto loop_of) {
        benchmark::RegisterBenchmark(("parts/" + what + '/' + name).c_str(), [=](benchmark::State& state) {
            bench::packed_tile tile(set, dim);
            part(state, set, loop_of(tile));
        })->Unit(benchmark::kMillisecond);
    };
    add("q_k",
        [=](bench::packed_tile& tile) { return bench::compiled_for<float>(set, bench::score_products{{&tile}}); });
    add("p_v",
        [=](bench::packed_tile& tile) { return bench::compiled_for<float>(set, bench::value_products{{&tile}}); });
    add("all", [=](bench::packed_tile& tile) { return tile.whole(); });
}

/// The first word of a score's name.
std::string kind(const any_score& score) {
    const std::string name = score.name();
    return name.substr(0, name.find('('));
}

template <class T>
void add_flash(instruction_set set, const any_score& score, index_t n, index_t dim) {
    const std::string name = std::string(to_string(set)) + '/' + std::string(element_traits<T>::name) + '/' +
                             kind(score) + "/d" + std::to_string(dim) + "/n" + std::to_string(n);
    benchmark::RegisterBenchmark(("flash/" + name).c_str(), [=](benchmark::State& state) {
        forward<T>(state, flash{set}, set, score, n, dim);
    })->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("flash_backward/" + name).c_str(), [=](benchmark::State& state) {
        backward<T>(state, flash{set}, set, score, n, dim);
    })->Unit(benchmark::kMillisecond);
}

/// Widths that registers do not divide, and rows that hardly fill a tile: no cliff is wanted there.
void add_shapes() {
    for (const index_t dim : {32, 80, 96, 192, 256}) add_flash<float>(best_instruction_set(), full{}, 4096, dim);
    for (const index_t dim : {64, 128})
        for (const index_t n : {128, 256, 512}) add_flash<float>(best_instruction_set(), full{}, n, dim);
}

/// Scores that hide most keys: the cost follows what is seen.
void add_sparse() {
    for (const index_t dim : {64, 128}) {
        add_flash<float>(best_instruction_set(), sliding_window{.left = 1023, .right = 0}, 8192, dim);
        std::vector<index_t> boundaries;
        for (index_t at = 0; at < 8192; at += 700) boundaries.push_back(at);
        boundaries.push_back(8192);
        add_flash<float>(best_instruction_set(), documents{boundaries} & causal{}, 8192, dim);
    }
}

void add_all() {
    const auto vectors = {instruction_set::baseline, instruction_set::avx2, instruction_set::avx512};
    for (const index_t dim : {64, 128})
        for (const any_score& score : {any_score(full{}), any_score(causal{})}) {
            for (const index_t n : {1024, 2048, 4096, 8192, 16384})
                add_flash<float>(best_instruction_set(), score, n, dim);
            add_flash<bfloat16>(best_instruction_set(), score, 4096, dim);
            add_flash<double>(best_instruction_set(), score, 4096, dim);
            for (const instruction_set set : vectors)
                if (set != vectors_of(best_instruction_set()) && is_supported(set))
                    add_flash<float>(set, score, 4096, dim);
        }
    add_shapes();
    add_sparse();
    for (const instruction_set set : vectors)
        for (const index_t dim : {64, 128})
            if (is_supported(set)) add_parts(set, dim);
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
