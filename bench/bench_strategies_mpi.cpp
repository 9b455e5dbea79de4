/// Strategies over MPI on all ranks of the job: mpirun -n 4 build/bin/bench_strategies_mpi. Time is the maximum over ranks;
/// rank 0 prints.
#include "support/strategies.hpp"

#include <seqpar/comm/mpi.hpp>
#include <seqpar/core/cores.hpp>

#include <benchmark/benchmark.h>

#include <boost/mpi/environment.hpp>

#include <algorithm>

namespace {

using namespace seqpar;
using strategy_on_mpi = any_strategy<mpi_communicator>;

constexpr bench::sharded_case work{8192, 8, 8, 64, true};

void add(const char* name, const mpi_communicator& world, const strategy_on_mpi& strategy) {
    const int cores = std::min(world.size(), cores_here());
    benchmark::RegisterBenchmark(name,
                                 [=](benchmark::State& state) {
                                     const double peak = bench::peak_of(cores);
                                     const auto seconds = bench::seconds_of(world, strategy, work,
                                                                            static_cast<int>(state.max_iterations));
                                     std::size_t n = 0;
                                     double total = 0;
                                     for (auto _ : state) {
                                         total += seconds[n];
                                         state.SetIterationTime(seconds[n++]);
                                     }
                                     const double rate = work.flops() * static_cast<double>(n) / total;
                                     state.counters["GFLOP/s"] = rate / 1e9;
                                     state.counters["of_peak"] = rate / peak;
                                 })
        ->UseManualTime()
        ->Iterations(3)
        ->Unit(benchmark::kMillisecond);
}

/// Ranks other than 0 say nothing.
struct silent : benchmark::BenchmarkReporter {
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>&) override {}
};

} // namespace

int main(int argc, char** argv) {
    boost::mpi::environment environment(argc, argv);
    const mpi_communicator world{boost::mpi::communicator()};
    add("mpi/ulysses/causal", world, ulysses<>{});
    add("mpi/all_gather/causal", world, all_gather{});
    add("mpi/all_gather_stream_1/causal", world, all_gather{1});
    add("mpi/ring/causal", world, ring{});
    if (world.size() % 2 == 0) add("mpi/ulysses_2_ring/causal", world, ulysses<ring>{2, {}});
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    silent quiet;
    if (world.rank() == 0)
        benchmark::RunSpecifiedBenchmarks();
    else
        benchmark::RunSpecifiedBenchmarks(&quiet);
}
