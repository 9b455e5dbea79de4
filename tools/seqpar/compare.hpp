#pragma once

#include "agree.hpp"
#include "comparison.hpp"
#include "in_agreement.hpp"
#include "measured_run.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "referee.hpp"
#include "trace.hpp"
#include "units.hpp"

#include <seqpar/layout/contiguous.hpp>

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::tool {

/// The strategies of one compare: serial, which all others are measured against, and those asked for or all that apply.
[[nodiscard]] inline std::vector<strategy_name> strategies_to_compare(const attention_command& c, int ranks,
                                                                      index_t heads) {
    if (c.strategies.empty()) return strategies_that_apply(ranks, heads);
    std::vector<strategy_name> all{strategy_name::parse("serial")};
    for (const strategy_name& s : c.strategies)
        if (!s.is_serial()) all.push_back(s);
    return all;
}

/// One row: the strategy on all ranks, or serial on rank 0 by itself, judged on rank 0. Collective. Serial comes first: what
/// it has computed is what the others are compared with.
template <class T, class Kernel, communicator C>
[[nodiscard]] comparison_row compare_one(C& comm, const strategy_name& strategy, const attention_command& c,
                                         const whole_inputs<T>& in, std::optional<referee<T, Kernel>>& judges,
                                         std::vector<run_trace>& traces, progress& shown) {
    comparison_row row;
    row.strategy = strategy.text();
    const auto judge_it = [&](const measured_run<T>& run) {
        row.cost = run.cost;
        if (run.backward) row.backward.emplace().cost = run.backward->cost;
        if (comm.rank() != 0) return;
        if (run.trace) traces.push_back(*run.trace);
        if (!judges) {
            shown.say("computing the definition");
            judges.emplace(c.how, run.scale, comm.size(), in, &run);
        }
        shown.say("judging " + strategy.text());
        row.judged = judges->judge_forward(run);
        if (run.backward) row.backward->judged = judges->judge_backward(run);
    };
    if (strategy.is_serial()) {
        C alone = comm.split(comm.rank() == 0 ? 0 : 1, comm.rank());
        if (comm.rank() == 0) judge_it(run_measured<T, Kernel>(alone, strategy, contiguous{}, c.how, true, in, true));
    } else {
        judge_it(run_measured<T, Kernel>(comm, strategy, c.how.layout, c.how, true, in, true));
    }
    await_rank_0(comm);
    return row;
}

/// The command compare. Returns the exit status. Collective.
template <class T, class Kernel, class World>
[[nodiscard]] int compare(World& world, const attention_command& c, const whole_inputs<T>& in) {
    std::optional<output_file> json, trace;
    speaker_in_agreement(world, [&] {
        if (c.json) json.emplace(*c.json);
        if (c.trace) trace.emplace(*c.trace);
        if (json && trace && json->place() == trace->place())
            throw refusal(fmt::format("{}: --json and --trace name the same file: give two", *c.trace));
    });
    const std::vector<strategy_name> strategies = strategies_to_compare(c, world.ranks(), in.shape().heads);
    for (const strategy_name& s : strategies) s.check(s.is_serial() ? 1 : world.ranks());

    comparison all;
    all.shape = in.shape();
    all.type = element_traits<T>::name;
    all.save = !c.dout ? "" : c.how.save == saving::keep ? "keep" : "resend";
    all.world = World::name;
    all.ranks = world.ranks();
    all.threads_per_rank = c.how.threads_per_rank.value(), all.cores = world.cores_here();
    all.layout = c.how.layout.name(), all.score = c.how.score.name(), all.kernel = c.how.kernel_text;
    all.scale = c.how.scale.value_or(1 / std::sqrt(static_cast<double>(all.shape.dim)));

    int status = 0;
    std::vector<run_trace> all_traces;
    {
        progress shown(world.speaks());
        world.run([&](auto comm) {
            std::optional<referee<T, Kernel>> judges; // on rank 0
            std::vector<comparison_row> rows;
            std::vector<run_trace> traces; // on rank 0
            for (const strategy_name& strategy : strategies) {
                if (comm.rank() == 0)
                    shown.say(fmt::format("{}, {} ({} of {})", strategy.text(),
                                          ranks_text(strategy.is_serial() ? 1 : comm.size()), rows.size() + 1,
                                          strategies.size()));
                rows.push_back(compare_one<T, Kernel>(comm, strategy, c, in, judges, traces, shown));
            }
            if (comm.rank() == 0) all.rows = std::move(rows), all_traces = std::move(traces);
            const int mine = share(comm, comm.rank() == 0 && !all.verified() ? 1 : 0);
            if (comm.rank() == 0 || !world.speaks()) status = mine;
        });
    }
    if (world.speaks()) fmt::print("{}", all.text());
    std::fflush(stdout);
    speaker_in_agreement(world, [&] {
        if (!json) return;
        std::ofstream file(json->beside());
        file << all.json() << std::flush;
        if (!file) throw refusal(json->path() + ": cannot be written: the disk did not take all of it");
        json->commit();
    });
    std::string timing;
    speaker_in_agreement(world, [&] {
        if (trace) timing = write_trace(*trace, all_traces);
    });
    fmt::print("{}", timing);
    return status;
}

} // namespace seqpar::tool
