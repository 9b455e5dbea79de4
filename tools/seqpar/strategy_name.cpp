#include "strategy_name.hpp"

#include "words.hpp"

#include <seqpar/comm/self.hpp>
#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace seqpar::tool {
namespace {

constexpr std::array<std::string_view, 4> names{"serial", "ulysses", "all-gather", "ring"}; // in the order of kind
constexpr int most_nested = 8;

} // namespace

strategy_name::part strategy_name::parse_part(std::string_view text, std::string_view whole) {
    const std::size_t colon = text.find(':');
    const std::string_view name = text.substr(0, colon);
    const std::string in = text == whole ? "strategy" : fmt::format("strategy '{}':", whole);
    if (name.empty()) throw refusal(fmt::format("strategy '{}' lacks a name: allowed are {}", whole, list(names)));
    part p{static_cast<kind>(choice(in, name, names))};
    if (colon == std::string_view::npos) return p;
    const std::string_view option = text.substr(colon + 1);
    switch (p.name) {
    case kind::ulysses:
        p.number = static_cast<int>(whole_number(fmt::format("strategy '{}': degree", whole), option, 1, 1024));
        break;
    case kind::all_gather: {
        constexpr std::string_view key = "stream=";
        if (option.substr(0, key.size()) != key)
            throw refusal(fmt::format("strategy '{}': all-gather takes the option stream=c, blocks of V a round (as in "
                                      "all-gather:stream=1), and not '{}'",
                                      whole, option));
        p.number = static_cast<int>(
            whole_number(fmt::format("strategy '{}': stream", whole), option.substr(key.size()), 1, 1024));
        break;
    }
    default:
        throw refusal(fmt::format("strategy '{}': {} takes no option, and was given '{}'; ulysses takes a degree "
                                  "(ulysses:2) and all-gather blocks of V a round (all-gather:stream=1)",
                                  whole, name, option));
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
