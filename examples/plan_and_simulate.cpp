// Which scheme for a million tokens on 64 GPUs? The planner's answer in closed form, and the first of each family simulated.
#include <seqpar/planning/simulate.hpp>
#include <seqpar/seqpar.hpp>

#include <cstdio>

using namespace seqpar;

int main() {
    plan::machine cluster; // 16 nodes of 8 GPUs; `seqpar machines` has real ones, with their sources
    cluster.name = "gpus";
    cluster.ranks_per_node = 8;
    cluster.memory = std::size_t{70} << 30;
    cluster.bfloat16 = {600e12, 500e12}; // flop/s that the kernel reaches, forward and backward
    cluster.call = 5e-6;
    cluster.inside = {3e-6, 450e9}; // between ranks of a node: seconds, bytes a second
    cluster.ports = 8;
    cluster.port = {4e-6, 50e9};
    cluster.shape = plan::network_shape::fat_tree;
    cluster.extents = {16, 1};
    cluster.cable = {3e-7, 400e9};

    constexpr int ranks = 64;
    workload work;
    work.shape = {
        .batch = 1, .queries = 1 << 20, .keys = 1 << 20, .heads = 32, .kv_heads = 8, .dim = 128, .dim_v = 128};
    work.score = causal{};
    work.train = true;

    const ranking all = rank_schemes(work, cluster, ranks);
    std::printf("%zu schemes. The first of each family:\n", all.entries.size());
    for (const plan_entry* e : all.families())
        std::printf("  %-28s %-10s %8.1f ms %6.2f GiB  %s\n", e->scheme.strategy.name().c_str(),
                    e->scheme.layout.name().c_str(), 1e3 * e->cost.seconds(),
                    static_cast<double>(e->cost.memory) / (1 << 30), e->why.c_str());

    // The code that would move real tensors, on ghosts of them.
    const simulation ring_run = simulate(cluster, ranks, work, ring{}, zigzag{}),
                     nested = simulate(cluster, ranks, work, ulysses<ring>{8, {}}, zigzag{});
    std::printf("simulated: ring %.1f ms, ulysses:8/ring %.1f ms\n", 1e3 * ring_run.seconds(), 1e3 * nested.seconds());
    const double planned = all.winner().cost.seconds();
    return planned > 0 && nested.seconds() < 1.1 * planned ? 0 : 1;
}
