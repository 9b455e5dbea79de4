/// Strategies on threads: time is the maximum over ranks; rates are ratios to the FMA peak that the same run measures on
/// the cores in use, and to serial on one core.
#include "support/strategies.hpp"

#include <seqpar/core/cores.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <mutex>

namespace {

using namespace seqpar;
using strategy_on_threads = any_strategy<thread_communicator>;

constexpr bench::sharded_case long_sequence{8192, 8, 8, 64, false}, long_causal{8192, 8, 8, 64, true},
    grouped{8192, 8, 2, 128, true};

void forward(benchmark::State& state, const strategy_on_threads& strategy, int ranks, const bench::sharded_case& c) {
    const int cores = std::min(ranks, cores_here());
    const double peak = bench::peak_of(cores);
    std::vector<double> seconds;
    threads::run(ranks, [&](thread_communicator world) {
        const auto mine = bench::seconds_of(world, strategy, c, static_cast<int>(state.max_iterations));
        if (world.rank() == 0) seconds = mine;
    });
    std::size_t n = 0;
    for (auto _ : state) state.SetIterationTime(seconds[n++]);
    double total = 0;
    for (const double s : seconds) total += s;
    const double rate = c.flops() * static_cast<double>(seconds.size()) / total;
    state.counters["GFLOP/s"] = rate / 1e9;
    state.counters["of_peak"] = rate / peak;
}

void add(const char* name, const strategy_on_threads& strategy, int ranks) {
    const auto one = [&](const char* work, const bench::sharded_case& c) {
        benchmark::RegisterBenchmark((std::string(name) + "/P=" + std::to_string(ranks) + work).c_str(),
                                     [=](benchmark::State& state) { forward(state, strategy, ranks, c); })
            ->UseManualTime()
            ->Iterations(3)
            ->Unit(benchmark::kMillisecond);
    };
    one("/full", long_sequence);
    one("/causal", long_causal);
    one("/causal_gqa_d128", grouped);
}

} // namespace

int main(int argc, char** argv) {
    add("serial", serial{}, 1);
    for (const int ranks : {2, 4}) {
        add("ulysses", ulysses<>{}, ranks);
        add("all_gather", all_gather{}, ranks);
        add("all_gather_stream_1", all_gather{1}, ranks);
        add("ring", ring{}, ranks);
    }
    add("ulysses_2_ring", ulysses<ring>{2, {}}, 4);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::RunSpecifiedBenchmarks();
}
