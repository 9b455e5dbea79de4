#include "plan_schemes.hpp"

#include "machine_named.hpp"
#include "output_file.hpp"
#include "planned.hpp"
#include "progress.hpp"

#include <optional>
#include <utility>

namespace seqpar::tool {

std::string plan_schemes(const plan_command& c) {
    planned all{c.of, machine_named(c.of.machine), {}, {}};
    std::optional<output_file> json;
    if (c.of.json) json.emplace(*c.of.json);
    {
        progress shown(true);
        shown.say("pricing schemes");
        all.found = rank_schemes(c.of.work, all.machine, c.of.ranks);
        shown.say("pricing other numbers of tokens");
        all.changes = crossovers(c.of.work, all.machine, all.found);
    }
    std::string text = all.text(c.top);
    if (json) text += write_text(*json, all.json(), "all schemes");
    return text;
}

} // namespace seqpar::tool
