#include "planning_options.hpp"

#include "choices.hpp"
#include "score_request.hpp"
#include "words.hpp"

#include <seqpar/core/error.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace seqpar::tool {
namespace {

void add_request(CLI::App& c, planning_texts& to) {
    c.add_option("--tokens", to.tokens, "queries and keys: 131072, or 128K, or 1M, where K is 1024 and M is 1024 K")
        ->required()
        ->type_name("N");
    c.add_option("--heads", to.heads, "heads of Q")->required()->type_name("H");
    c.add_option("--kv-heads", to.kv_heads, "heads of K and V; heads is a multiple of it (default: heads)")
        ->type_name("G");
    c.add_option("--head-dim", to.head_dim, "length of a head's vectors (default: 128)")->type_name("D");
    c.add_option("--batch", to.batch, "sequences (default: 1)")->type_name("B");
    c.add_option("--ranks", to.ranks, "as many ranks of the machine; K and M as of tokens")->required()->type_name("P");
    c.add_option("--machine", to.machine, "a name that `machines` lists, or a description's file, FILE.json")
        ->required()
        ->type_name("M");
    c.add_flag("--causal", to.causal, "a query at position p sees the keys at positions <= p");
    c.add_option("--window", to.window, "L,R: keys from p - L to p + R, both included; -1 is open (default: open)")
        ->type_name("L,R");
    c.add_flag("--train", to.train, "forward and backward (default: forward)");
    c.add_option("--storage", to.storage, "tensors are of float, double or bfloat16 (default: bfloat16)")
        ->type_name("NAME");
    c.add_option("--json", to.json, "write everything to this file, too")->type_name("FILE");
}

[[nodiscard]] attention_shape shape_of(const planning_texts& from) {
    constexpr index_t most = 1 << 20, most_elements = index_t{1} << 44;
    attention_shape s;
    s.queries = s.keys = whole_number_with_unit("--tokens", from.tokens, 1, index_t{1} << 40);
    s.heads = whole_number("--heads", from.heads, 1, most);
    s.kv_heads = from.kv_heads ? whole_number("--kv-heads", *from.kv_heads, 1, most) : s.heads;
    if (s.heads % s.kv_heads != 0) {
        index_t near = std::min(s.kv_heads, s.heads);
        while (s.heads % near != 0) --near;
        throw refusal(fmt::format("--heads {} is no multiple of --kv-heads {}: nearest that fits is --kv-heads {}",
                                  s.heads, s.kv_heads, near));
    }
    s.dim = s.dim_v = whole_number("--head-dim", from.head_dim, 1, most);
    s.batch = whole_number("--batch", from.batch, 1, most);
    index_t rest = most_elements; // that tokens may be
    for (const index_t factor : {s.heads, s.dim, s.batch}) rest /= factor;
    if (s.queries > rest)
        throw refusal(fmt::format("--tokens {}: Q has more than {} elements: allowed are {} tokens of that batch and "
                                  "these heads",
                                  from.tokens, most_elements, rest));
    return s;
}

[[nodiscard]] planning_request request_of(const planning_texts& from) {
    static constexpr std::array<std::string_view, 3> storages{"float", "double",
                                                              "bfloat16"}; // in the order of the type
    planning_request to;
    to.work.shape = shape_of(from);
    score_texts score;
    score.causal = from.causal, score.window = from.window;
    to.work.score = load_score(score_request::parse(score), to.work.shape).score; // such a score has no files
    to.work.type = static_cast<storage>(choice("--storage", from.storage, storages));
    to.work.train = from.train;
    to.causal = from.causal, to.window = from.window;
    to.ranks = static_cast<int>(whole_number_with_unit("--ranks", from.ranks, 1, 1 << 20));
    to.machine = from.machine, to.json = from.json;
    return to;
}

} // namespace

void add_plan(CLI::App& program, plan_texts& to) {
    CLI::App& c = *program.add_subcommand(
        "plan", "Which scheme is quickest on a machine that is not here, by closed forms: a table, the winner first");
    add_request(c, to.of);
    c.add_option("--strategy", to.strategy,
                 "rank these alone, separated by commas; as attend takes them (default: all)")
        ->type_name("S,S");
    c.add_option("--layout", to.layout, "contiguous, zigzag or striped alone (default: those that make a difference)")
        ->type_name("NAME");
    c.add_option("--top", to.top, "rows of the table (default: 10)")->type_name("n");
}

void add_simulate(CLI::App& program, simulate_texts& to) {
    CLI::App& c = *program.add_subcommand(
        "simulate", "Run strategies on a simulated machine: time, waiting, bytes, and the closed form beside them");
    c.add_option("--strategy", to.strategy, "one or several, separated by commas; as attend takes them")
        ->required()
        ->type_name("S,S");
    add_request(c, to.of);
    c.add_option("--layout", to.layout,
                 "which rank holds which rows: contiguous, zigzag, striped (default: contiguous)")
        ->type_name("NAME");
    c.add_option("--save", to.save, "what forward keeps for backward: resend (nothing), keep (default: resend)")
        ->type_name("NAME");
    c.add_option("--trace", to.trace, "write what each rank does when to this file, for ui.perfetto.dev")
        ->type_name("FILE");
}

plan_command read(const plan_texts& from) {
    plan_command to{request_of(from.of), static_cast<int>(whole_number("--top", from.top, 1, 1 << 20)), {}, {}};
    if (from.strategy) to.strategies = strategy_name::parse_list(*from.strategy);
    if (from.layout) to.layout = layout_named(*from.layout);
    return to;
}

simulate_command read(const simulate_texts& from) {
    static constexpr std::array<std::string_view, 2> saves{"resend", "keep"};
    simulate_command to{request_of(from.of), strategy_name::parse_list(from.strategy), layout_named(from.layout),
                        from.trace};
    if (from.save) {
        to.of.work.keep = choice("--save", *from.save, saves) == 1;
        if (!from.of.train) throw refusal(fmt::format("--save {} is of backward: give --train, too", *from.save));
    }
    return to;
}

} // namespace seqpar::tool
