// simulate, by SimGrid.

#include "machine_named.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "simulate_schemes.hpp"
#include "simulated.hpp"
#include "simulation_trace.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/plan/network.hpp>
#include <seqpar/planning/estimate.hpp>
#include <seqpar/planning/pricing.hpp>
#include <seqpar/planning/simulate.hpp>
#include <seqpar/strategy/any_strategy.hpp>

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::tool {
namespace {

using strategy = any_strategy<simulated_communicator, priced>;

[[nodiscard]] simulated_row row_of(const simulated_pass& seen, const pass_time& predicted, const plan::cost& cost) {
    simulated_row row{
        seen.seconds,          seen.busy, {},  {}, seen.inside.bytes, seen.inside.messages, seen.between.bytes,
        seen.between.messages, predicted, cost};
    for (const traffic& t : seen.counted) {
        row.bytes.push_back(static_cast<std::size_t>(t.bytes));
        row.messages.push_back(static_cast<std::size_t>(t.messages));
    }
    return row;
}

[[nodiscard]] simulated_scheme simulated(const strategy& s, const simulate_command& c, const plan::machine& m,
                                         const plan::network& net, progress& shown, simulation_trace* trace) {
    const workload& work = c.of.work;
    const std::vector<placement> where = detail::placements(work.shape, c.layout, c.of.ranks);
    const estimate predicted = price(s, work, m, net, where);
    simulation_options options;
    if (trace != nullptr)
        options.each = [trace](int rank, std::span<const timeline::span> spans) { trace->write(rank, spans); };
    int told = -1;
    options.progress = [&, name = s.name()](double done) {
        const int now = static_cast<int>(1000 * done);
        if (now == std::exchange(told, now)) return;
        shown.say(fmt::format("simulating {}: {:.1f}%", name, 100 * done));
    };
    const auto begin = std::chrono::steady_clock::now();
    const simulation seen = simulate(m, c.of.ranks, work, s, c.layout, options);
    simulated_scheme result{
        s.name(), row_of(seen.forward, predicted.forward_time, predicted.forward), {}, predicted.memory, 0};
    if (seen.backward) result.backward = row_of(*seen.backward, predicted.backward_time, predicted.backward);
    result.took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
}

} // namespace

std::string simulate_schemes(const simulate_command& c) {
    simulated_schemes found{c.of, machine_named(c.of.machine), c.layout.name(), {}};
    const plan::network net(found.machine, c.of.ranks);
    std::vector<strategy> strategies;
    for (const strategy_name& s : c.strategies) {
        strategies.push_back(s.on<simulated_communicator, priced>());
        strategies.back().check(c.of.ranks);
    }
    std::optional<output_file> json;
    if (c.of.json) json.emplace(*c.of.json);
    std::optional<simulation_trace> trace;
    if (c.trace) trace.emplace(*c.trace);
    if (json && trace && json->place() == trace->file().place())
        throw refusal(fmt::format("{}: --json and --trace name the same file: give two", *c.trace));
    {
        progress shown(true);
        for (const strategy& s : strategies) {
            shown.say(fmt::format("simulating {}", s.name()));
            if (trace) trace->begin(s.name(), c.of.ranks);
            found.all.push_back(simulated(s, c, found.machine, net, shown, trace ? &*trace : nullptr));
        }
    }
    std::string text = found.text();
    if (json) text += write_text(*json, found.json(), "everything, with the shares of each rank");
    if (trace) text += trace->finish();
    return text;
}

} // namespace seqpar::tool
