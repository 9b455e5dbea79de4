#include "asked.hpp"
#include "planned.hpp"

#include <seqpar/version.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>

namespace seqpar::tool {
namespace {

using nlohmann::ordered_json;

[[nodiscard]] ordered_json of(const pass_time& t, const plan::cost& c) {
    return {{"seconds", t.whole},
            {"compute_seconds", t.compute},
            {"wait_seconds", t.whole - t.compute},
            {"exchange_seconds", t.exchange},
            {"latency_seconds", t.latency},
            {"seconds_without_contention", t.alone},
            {"bytes_sent", c.bytes},
            {"messages_sent", c.messages},
            {"rounds", c.rounds}};
}

[[nodiscard]] ordered_json of(const plan_entry& e, bool train) {
    ordered_json all{
        {"strategy", e.scheme.strategy.name()}, {"family", e.scheme.family()}, {"layout", e.scheme.layout.name()}};
    if (train) all["save"] = e.scheme.keep ? "keep" : "resend";
    all["seconds"] = e.cost.seconds();
    all["memory_bytes"] = e.cost.memory;
    all["fits"] = e.fits;
    all["why"] = e.why;
    all["forward"] = of(e.cost.forward_time, e.cost.forward);
    if (train) all["backward"] = of(e.cost.backward_time, e.cost.backward);
    return all;
}

} // namespace

std::string planned::json() const {
    ordered_json all{{"seqpar", version_string}, {"asked", asked_json(asked, machine)}};
    all["schemes"] = ordered_json::array();
    for (const plan_entry& e : found.entries) all["schemes"].push_back(of(e, asked.work.train));
    all["best_of_each_family"] = ordered_json::array(); // places among the schemes
    for (const plan_entry* e : found.families()) all["best_of_each_family"].push_back(e - found.entries.data());
    all["crossovers"] = ordered_json::array();
    for (const crossover& c : changes)
        all["crossovers"].push_back(
            {{"tokens", c.tokens}, {"strategy", c.strategy}, {"layout", c.layout}, {"seconds", c.seconds}});
    all["check"] = check();
    return all.dump(2) + '\n';
}

} // namespace seqpar::tool
