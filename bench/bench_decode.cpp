/// @file
/// One query of 32 heads over a long cache of 4 kv heads, head_dim 128, by one core and by all: as a share of the read bandwidth
/// that as many cores have, measured just before. What is counted is K and V, once.

#include "support/read_bandwidth.hpp"

#include <seqpar/core/cores.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/score/full.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <span>
#include <string>

namespace {

using namespace seqpar;

/// A cache that the processor's own does not hold: how fast it is read is what is measured.
template <class T>
index_t long_cache(index_t kv_heads, index_t dim) {
    index_t keys = 65536;
    while (static_cast<std::size_t>(2 * keys * kv_heads * dim) * sizeof(T) < 4 * bench::last_cache_bytes()) keys *= 2;
    return keys;
}

template <class T>
void decode_step(benchmark::State& state, int threads) {
    constexpr index_t heads = 32, kv_heads = 4, dim = 128;
    const index_t keys = long_cache<T>(kv_heads, dim);
    tensor<T> q({1, 1, heads, dim}), k({1, keys, kv_heads, dim}), v({1, keys, kv_heads, dim});
    for (tensor<T>* x : {&q, &k, &v})
        for (index_t i = 0; i < x->shape().count(); ++i)
            x->data()[i] = static_cast<T>(static_cast<float>(i * 37 % 101 - 50) / 32);
    const origin row{positions{run{position{keys - 1}, 1, 1}}, {0, heads}}, rows{positions::whole(keys), {0, kv_heads}};
    const key_block<T> cache{k.view(), v.view(), rows};
    const thread_pool pool(threads);
    context how;
    how.scale = 1 / std::sqrt(static_cast<double>(dim));
    how.n = {keys, keys};
    how.group = heads / kv_heads;
    how.executor = pool;
    partial<accumulator_t<T>> result(q.shape());

    static const bench::read_bandwidth bandwidth;
    const double limit = bandwidth(threads);
    for (auto _ : state) {
        flash{}.forward(how, block<const T>{q.view(), row}, std::span<const key_block<T>>(&cache, 1), full{}, result);
        benchmark::DoNotOptimize(result.acc().data());
    }
    const double bytes = static_cast<double>(k.shape().count() + v.shape().count()) * sizeof(T);
    using benchmark::Counter;
    state.counters["GB/s"] = Counter(bytes / 1e9, Counter::kIsIterationInvariantRate);
    state.counters["of_bandwidth"] = Counter(bytes / limit, Counter::kIsIterationInvariantRate);
    state.counters["bandwidth"] = limit / 1e9;
}

template <class T>
void add(int threads) {
    const std::string name =
        std::string("decode/") + std::string(element_traits<T>::name) + "/t" + std::to_string(threads);
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { decode_step<T>(state, threads); })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
}

} // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    add<float>(1), add<bfloat16>(1);
    if (cores_here() > 1) add<float>(cores_here()), add<bfloat16>(cores_here());
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
