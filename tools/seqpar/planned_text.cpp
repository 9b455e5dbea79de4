#include "asked.hpp"
#include "planned.hpp"
#include "text_table.hpp"
#include "units.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace seqpar::tool {
namespace {

[[nodiscard]] const char* saved(const plan_entry& e) { return e.scheme.keep ? "keep" : "resend"; }

[[nodiscard]] std::vector<std::string> cells(const plan_entry& e, bool train) {
    pass_time t = e.cost.forward_time;
    t += e.cost.backward_time;
    std::vector<std::string> row{e.scheme.strategy.name(), e.scheme.layout.name()};
    if (train) row.emplace_back(saved(e));
    row.insert(row.end(),
               {fine_seconds_text(t.whole), fine_seconds_text(t.compute), fine_seconds_text(t.whole - t.compute),
                bytes_text(e.cost.memory), bytes_text(e.cost.forward.bytes + e.cost.backward.bytes), e.why});
    return row;
}

} // namespace

std::string planned::check() const {
    const candidate& best = found.winner().scheme;
    return simulate_line(asked, best.strategy.name(), best.layout.name(), best.keep);
}

std::string planned::text(int top) const {
    const bool train = asked.work.train;
    const std::size_t shown = std::min(found.entries.size(), static_cast<std::size_t>(top));
    std::vector<std::string> heading{"scheme", "layout"};
    if (train) heading.emplace_back("saved");
    heading.insert(heading.end(), {"time", "compute", "wait", "memory", "sent", "why"});

    std::string all = asked_text(asked, machine);
    all += fmt::format("\n{} of {}, the quickest first:\n\n", shown, plural(found.entries.size(), "scheme"));
    std::vector<std::vector<std::string>> table{heading};
    for (std::size_t i = 0; i < shown; ++i) table.push_back(cells(found.entries[i], train));
    all += text_table(table, true);

    all += "\nThe best of each kind:\n\n";
    table = {heading};
    for (const plan_entry* e : found.families()) table.push_back(cells(*e, train));
    all += text_table(table, true);
    all += "\ntime: by closed forms; compute: of it, the kernel of the rank that has most to do; wait: the rest, "
           "messages that "
           "the\nkernel does not hide. memory: of a rank at the peak, its tensors among it. sent: bytes by a rank, at "
           "most.\n";

    all += fmt::format("\nOn as many ranks, from so many tokens on the quickest is:\n\n");
    table = {{"tokens", "scheme", "layout", "time"}};
    for (const crossover& c : changes)
        table.push_back({count_text(c.tokens), c.strategy, c.layout, fine_seconds_text(c.seconds)});
    all += text_table(table);
    return all + fmt::format("\nTo check the winner:\n\n  {}\n", check());
}

} // namespace seqpar::tool
