#include "strategy_name.hpp"

#include "words.hpp"

#include <seqpar/comm/self.hpp>
#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace seqpar::tool {
namespace {

constexpr std::array<std::string_view, 6> names{"serial", "ulysses", "all-gather",
                                                "ring",   "tree",    "grid"}; // in the order of kind
constexpr int most_nested = 8;

/// A word, as in "doubling", or a key with a value, as in "stream=2".
struct option_text {
    std::string_view key, value;
    bool has_value;

    explicit option_text(std::string_view text)
        : key(text.substr(0, text.find('='))), has_value(key.size() < text.size()) {
        if (has_value) value = text.substr(key.size() + 1);
    }
};

} // namespace

void strategy_name::parse_option(part& p, std::string_view text, std::string_view whole) {
    const std::string_view name = names[static_cast<std::size_t>(p.name)];
    const option_text option(text);
    const auto number = [&](const char* what, std::string_view value) {
        return static_cast<int>(whole_number(fmt::format("strategy '{}': {}", whole, what), value, 1, 1024));
    };
    const auto refuse = [&](std::string_view allowed) {
        throw refusal(fmt::format("strategy '{}': {} takes {}, and not '{}'", whole, name, allowed, text));
    };
    switch (p.name) {
    case kind::ulysses:
        p.degree = number("degree", text);
        return;
    case kind::all_gather:
        if (option.key == "stream" && option.has_value)
            p.all_gather.stream = number("stream", option.value);
        else if (text == "direct" || text == "ring" || text == "doubling")
            p.all_gather.pattern = text == "direct" ? exchange_pattern::direct
                                   : text == "ring" ? exchange_pattern::ring
                                                    : exchange_pattern::doubling;
        else
            refuse("a pattern, direct, ring or doubling (as in all-gather:doubling), and blocks of V a round (as in "
                   "all-gather:stream=1)");
        return;
    case kind::ring:
        if (text == "bidirectional")
            p.ring.route = ring_route::bidirectional();
        else if (option.key == "double" && option.has_value)
            p.ring.route = ring_route::double_ring(number("double", option.value));
        else if (text == "pass=q" || text == "pass=kv" || text == "pass=auto")
            p.ring.passing = text == "pass=q"    ? ring_passing::queries
                             : text == "pass=kv" ? ring_passing::keys
                                                 : ring_passing::automatic;
        else
            refuse("bidirectional, double=w (inner rings of w ranks), or what is passed: pass=kv, pass=q, pass=auto");
        return;
    case kind::grid: {
        const std::size_t x = text.find('x');
        if (x == std::string_view::npos)
            refuse("its sides, as in grid:2x4: ranks that share keys x ranks that share queries");
        p.grid = {number("Pa", text.substr(0, x)), number("Pc", text.substr(x + 1))};
        return;
    }
    case kind::serial:
    case kind::tree:
        throw refusal(fmt::format("strategy '{}': {} takes no option, and was given '{}'; ulysses takes a degree "
                                  "(ulysses:2), all-gather a pattern and blocks of V a round (all-gather:doubling, "
                                  "all-gather:stream=1), ring a route (ring:bidirectional), grid its sides (grid:2x4)",
                                  whole, name, text));
    }
}

strategy_name::part strategy_name::parse_part(std::string_view text, std::string_view whole) {
    const std::size_t colon = text.find(':');
    const std::string_view name = text.substr(0, colon);
    const std::string in = text == whole ? "strategy" : fmt::format("strategy '{}':", whole);
    if (name.empty()) throw refusal(fmt::format("strategy '{}' lacks a name: allowed are {}", whole, list(names)));
    part p{static_cast<kind>(choice(in, name, names))};
    std::string_view rest = colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
    for (bool more = colon != std::string_view::npos; more;) {
        const std::size_t next = rest.find(':');
        parse_option(p, rest.substr(0, next), whole);
        more = next != std::string_view::npos;
        if (more) rest = rest.substr(next + 1);
    }
    return p;
}

strategy_name strategy_name::parse(std::string_view text) {
    strategy_name result;
    result.text_ = text;
    for (std::string_view rest = text;;) {
        const std::size_t slash = rest.find('/');
        result.parts_.push_back(parse_part(rest.substr(0, slash), text));
        if (slash == std::string_view::npos) return result;
        rest = rest.substr(slash + 1);
        const part& outer = result.parts_.back();
        if (outer.name != kind::ulysses) {
            const std::string_view name = names[static_cast<std::size_t>(outer.name)];
            throw refusal(fmt::format("strategy '{}': {} holds no inner strategy, and was given '{}'; ulysses does: "
                                      "ulysses:2/{}",
                                      text, name, rest, name));
        }
        if (result.parts_.size() == most_nested)
            throw refusal(fmt::format("strategy '{}' is nested deeper than {} strategies", text, most_nested));
    }
}

void strategy_name::check(int ranks) const { on<self_communicator>().check(ranks); }

std::vector<strategy_name> strategy_name::parse_list(std::string_view text) {
    std::vector<strategy_name> all;
    for (std::size_t from = 0; from <= text.size();) {
        const std::size_t comma = std::min(text.find(',', from), text.size());
        all.push_back(parse(text.substr(from, comma - from)));
        from = comma + 1;
    }
    return all;
}

} // namespace seqpar::tool
