#include "plan_schemes.hpp"

#include "machine_named.hpp"
#include "output_file.hpp"
#include "planned.hpp"
#include "progress.hpp"

#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::tool {

namespace {

/// The candidates that the command names.
[[nodiscard]] std::vector<candidate> chosen(const plan_command& c, const plan::machine& m) {
    std::vector<candidate> all;
    if (c.strategies.empty()) all = candidates(c.of.work, m, c.of.ranks);
    for (const strategy_name& s : c.strategies) {
        s.check(c.of.ranks);
        all.push_back({s.priced(), contiguous{}, false});
        if (!c.of.causal && !c.of.window) continue; // rows cost alike, whoever holds them
        all.push_back({s.priced(), zigzag{}, false});
        all.push_back({s.priced(), striped{}, false});
    }
    if (!c.layout) return all;
    std::set<std::string> seen;
    std::erase_if(all, [&](const candidate& each) { return !seen.insert(each.strategy.name()).second; });
    for (candidate& each : all) each.layout = *c.layout;
    return all;
}

} // namespace

std::string plan_schemes(const plan_command& c) {
    planned all{c.of, machine_named(c.of.machine), {}, {}};
    std::optional<output_file> json;
    if (c.of.json) json.emplace(*c.of.json);
    {
        progress shown(true);
        shown.say("pricing schemes");
        all.found =
            c.strategies.empty() && !c.layout
                ? rank_schemes(c.of.work, all.machine, c.of.ranks)
                : rank_schemes(c.of.work, all.machine, plan::network(all.machine, c.of.ranks), chosen(c, all.machine));
        shown.say("pricing other numbers of tokens");
        all.changes = crossovers(c.of.work, all.machine, all.found);
    }
    std::string text = all.text(c.top);
    if (json) text += write_text(*json, all.json(), "all schemes");
    return text;
}

} // namespace seqpar::tool
