#include "command_line.hpp"

#include "choices.hpp"
#include "words.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/kernel/reproducible.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/version.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace seqpar::tool {
namespace {

constexpr const char* about = "Sequence-parallel attention: one attention over a sequence that is sharded over ranks.";

constexpr const char* examples = R"(
Examples:
  {0} embed book.txt -o data --heads 8 --head-dim 64 --max-tokens 16384
  {0} attend data/q.npy data/k.npy data/v.npy -o out.npy --causal
  {0} verify data/q.npy data/k.npy data/v.npy --strategy ulysses:2/ring --ranks 4 --layout zigzag
  {0} verify data/q.npy data/k.npy data/v.npy --against out_of_another_program.npy --causal
  {0} compare data/q.npy data/k.npy data/v.npy --ranks 4 --causal --json table.json
  {0} attend data/q.npy data/k.npy data/v.npy -o out.npy --dout dout.npy --grads grads --causal --softcap 30

Exit status: 0 right, 1 a verification failed, 2 refused.)";

constexpr const char* strategies_help =
    "serial, ulysses[:degree][/inner], all-gather[:ring|:doubling][:stream=c], "
    "ring[:bidirectional|:double=w|:pass=q|:pass=auto], tree, grid[:PaxPc]; as in ulysses:2/ring";

/// Option values are read as text: what is wrong with them is said in the same words everywhere.
struct embed_texts {
    std::string text, directory, heads, head_dim, seed = "1";
    std::optional<std::string> kv_heads, max_tokens;
};

struct attention_texts {
    std::string q, k, v, layout = "contiguous", kernel = "flash", format = "bshd", threads = "auto";
    std::optional<std::string> out, lse, json, trace, strategy, ranks, scale, storage, dout, dlse, grads, save, against,
        sample;
    bool reproducible = false;
    score_texts score;
};

void add_embed(CLI::App& program, embed_texts& to) {
    CLI::App& c = *program.add_subcommand("embed", "Make q.npy, k.npy, v.npy of the bytes of a text: seeded embedding, "
                                                   "rotary positions, seeded projections");
    c.add_option("TEXTFILE", to.text, "text; a token is a byte")->required()->type_name("");
    c.add_option("-o,--out", to.directory, "directory for q.npy, k.npy, v.npy (float32, [1, tokens, heads, head_dim])")
        ->required()
        ->type_name("DIR");
    c.add_option("--heads", to.heads, "heads of Q")->required()->type_name("H");
    c.add_option("--kv-heads", to.kv_heads, "heads of K and V; heads is a multiple of it (default: heads)")
        ->type_name("G");
    c.add_option("--head-dim", to.head_dim, "length of a head's vectors")->required()->type_name("D");
    c.add_option("--max-tokens", to.max_tokens, "take no more bytes of the text than that (default: all)")
        ->type_name("N");
    c.add_option("--seed", to.seed, "of embedding and projections (default: 1)")->type_name("S");
}

void add_attention(CLI::App& program, attention_texts& to, const char* name, const char* description) {
    CLI::App& c = *program.add_subcommand(name, description);
    const std::string what = name;
    c.add_option("Q", to.q, ".npy of float32 or float64, [batch, seq, heads, head_dim]")->required()->type_name("");
    c.add_option("K", to.k, ".npy of the same type, [batch, key seq, kv_heads, head_dim]")->required()->type_name("");
    c.add_option("V", to.v, ".npy of the same type, [batch, key seq, kv_heads, head_dim of V]")
        ->required()
        ->type_name("");
    if (what == "compare") {
        c.add_option("--strategy", to.strategy,
                     std::string("compare only these, separated by commas (default: all that apply): ") +
                         strategies_help)
            ->type_name("S,S");
        c.add_option("--json", to.json, "write the table to this file, too")->type_name("FILE");
    } else {
        CLI::Option* out = c.add_option("-o,--out", to.out, "write the output to this .npy file")->type_name("OUT");
        if (what == "attend") out->required();
        c.add_option("--lse", to.lse,
                     what == "attend"
                         ? "write log-sum-exp to this .npy file, [batch, heads, seq]"
                         : "write log-sum-exp to this .npy file, [batch, heads, seq]; with --against: judge it")
            ->type_name("FILE");
        c.add_option("--strategy", to.strategy, std::string(strategies_help) + " (default: serial)")->type_name("S");
    }
    if (what == "verify") {
        c.add_option(
             "--against", to.against,
             "compute nothing: judge this output of another program, .npy, and its --lse and --grads; --ranks says "
             "how many partials it merges")
            ->type_name("OUT");
        c.add_option("--sample", to.sample,
                     "rows to compare with the definition, 16 at least (default: as many as 2e9 multiply-adds are "
                     "enough for)")
            ->type_name("N");
        c.add_option("--json", to.json, "with --against: write the verdict to this file, too")->type_name("FILE");
    }
    c.add_option("--ranks", to.ranks, "1 to 1024 ranks (default: 1; under mpirun the job's size)")->type_name("P");
    c.add_option("--layout", to.layout,
                 "which rank holds which rows: contiguous, zigzag, striped (default: contiguous)")
        ->type_name("NAME");
    CLI::Option* const kernel =
        c.add_option("--kernel", to.kernel, "flash, reference; flash:avx2 forces an instruction set (default: flash)")
            ->type_name("NAME");
    c.add_flag("--reproducible", to.reproducible,
               "the same bits for every strategy, layout, number of ranks and of threads; slow")
        ->excludes(kernel);
    c.add_flag("--causal", to.score.causal, "a query at position p sees the keys at positions <= p");
    c.add_option("--align", to.score.align,
                 "where query 0 stands: top-left (at key 0), bottom-right (at key Nk - Nq) "
                 "(default: top-left)")
        ->type_name("NAME");
    c.add_option("--q-offset", to.score.q_offset, "query i stands at position i + n; may be negative (default: 0)")
        ->type_name("n");
    c.add_option("--window", to.score.window,
                 "L,R: keys from p - L to p + R, both included; -1 is open (default: open)")
        ->type_name("L,R");
    c.add_option("--softcap", to.score.softcap, "scores become c tanh(score / c) (default: none)")->type_name("c");
    c.add_option("--alibi", to.score.alibi,
                 "- slope |p - j| on scores: .npy of slopes, [heads], or auto, the paper's (default: none)")
        ->type_name("FILE|auto");
    c.add_option("--bias", to.score.bias,
                 "added to scores: .npy of float32 or float64, -inf hides; or bool, true may be seen; "
                 "[batch or 1, heads or 1, Nq, Nk]")
        ->type_name("FILE");
    c.add_option("--sinks", to.score.sinks, "a logit of each head that joins its softmax: .npy, [heads]")
        ->type_name("FILE");
    c.add_option("--documents", to.score.documents,
                 "packed documents: .npy of cu_seqlens, int32 or int64, [documents + 1]")
        ->type_name("FILE");
    c.add_option("--documents-q", to.score.documents_q, "the same, of Q alone")->type_name("FILE");
    c.add_option("--documents-k", to.score.documents_k, "the same, of K and V alone")->type_name("FILE");
    c.add_option("--dropout", to.score.dropout, "drops weights with this probability (default: 0)")->type_name("p");
    c.add_option("--seed", to.score.seed, "of the dropout (default: 0)")->type_name("S");
    c.add_option("--dout", to.dout,
                 what == "attend" ? "backward, too: .npy of the gradient of the output; needs --grads"
                                  : "backward, too: .npy of the gradient of the output")
        ->type_name("FILE");
    c.add_option("--dlse", to.dlse, "the gradient of log-sum-exp, .npy, [batch, heads, seq] (default: none)")
        ->type_name("FILE");
    if (what != "compare")
        c.add_option("--grads", to.grads,
                     what == "attend"
                         ? "directory for dq.npy, dk.npy, dv.npy, dsinks.npy, dslopes.npy"
                         : "with --against: directory of its dq.npy, dk.npy, dv.npy, and perhaps dsinks.npy, "
                           "dslopes.npy")
            ->type_name("DIR");
    c.add_option("--save", to.save, "what forward keeps for backward: resend (nothing), keep (default: resend)")
        ->type_name("NAME");
    c.add_option("--storage", to.storage,
                 what == "verify"
                     ? "hold tensors as float, double or bfloat16; with --against also float16: what the other "
                       "program holds them in (default: the files' type, with --against OUT's)"
                     : "hold tensors as float, double or bfloat16, which is written as float32 (default: the "
                       "files' type)")
        ->type_name("NAME");
    c.add_option("--scale", to.scale, "factor of q.k (default: 1/sqrt(head_dim))")->type_name("s");
    c.add_option("--format", to.format, "order of the files' extents: bshd, bhsd (default: bshd)")->type_name("NAME");
    c.add_option(
         "--threads-per-rank", to.threads,
         "threads that a rank computes with, 1 to 1024, or auto: as many as leave no core with two (default: auto)")
        ->type_name("t");
    c.add_option("--trace", to.trace,
                 "write what each rank did when to this file, for chrome://tracing or ui.perfetto.dev")
        ->type_name("FILE");
}

[[nodiscard]] embed_command read(const embed_texts& from) {
    constexpr index_t most = 1 << 20;
    embed_command to;
    to.text = from.text;
    to.directory = from.directory;
    to.heads = whole_number("--heads", from.heads, 1, most);
    to.kv_heads = from.kv_heads ? whole_number("--kv-heads", *from.kv_heads, 1, most) : to.heads;
    if (to.heads % to.kv_heads != 0) {
        index_t near = std::min(to.kv_heads, to.heads);
        while (to.heads % near != 0) --near;
        throw refusal(fmt::format("--heads {} is no multiple of --kv-heads {}: nearest that fits is --kv-heads {}",
                                  to.heads, to.kv_heads, near));
    }
    to.head_dim = whole_number("--head-dim", from.head_dim, 1, most);
    if (from.max_tokens) to.max_tokens = whole_number("--max-tokens", *from.max_tokens, 0, index_t{1} << 40);
    to.seed = static_cast<std::uint64_t>(whole_number("--seed", from.seed, 0, std::numeric_limits<index_t>::max()));
    return to;
}

/// What is of --against, or not.
void refuse_mixtures(const attention_texts& from, attention_command::kind what) {
    if (from.against) {
        for (const auto& [option, given] : {std::pair("-o", &from.out), std::pair("--strategy", &from.strategy),
                                            std::pair("--save", &from.save), std::pair("--trace", &from.trace)})
            if (*given)
                throw refusal(
                    fmt::format("{} {} is of what seqpar computes, and --against {} judges what another program "
                                "has computed: give one of them",
                                option, **given, *from.against));
        if (from.reproducible)
            throw refusal(fmt::format("--reproducible is of what seqpar computes, and --against {} judges what another "
                                      "program has computed: give one of them",
                                      *from.against));
        if (from.dout && !from.grads)
            throw refusal(fmt::format("--dout {}: the gradients that it gave are needed: give --grads, their directory",
                                      *from.dout));
    } else if (what == attention_command::kind::verify) {
        for (const auto& [option, given] : {std::pair("--grads", &from.grads), std::pair("--json", &from.json)})
            if (*given)
                throw refusal(
                    fmt::format("{} {} is of --against, which is not given: verify judges what it computes, and "
                                "attend writes gradients",
                                option, **given));
    }
}

[[nodiscard]] attention_command read(const attention_texts& from, attention_command::kind what) {
    static constexpr std::array<std::string_view, 2> formats{"bshd", "bhsd"}, saves{"resend", "keep"};
    static constexpr std::array<std::string_view, 4> storages{"float", "double", "bfloat16",
                                                              "float16"}; // in the order of the type
    attention_command to{.what = what,
                         .q = from.q,
                         .k = from.k,
                         .v = from.v,
                         .out = from.out,
                         .lse = from.lse,
                         .json = from.json,
                         .trace = from.trace,
                         .against = from.against,
                         .strategies = {},
                         .ranks = {},
                         .dout = from.dout,
                         .dlse = from.dlse,
                         .grads = from.grads,
                         .score = score_request::parse(from.score),
                         .storage = {},
                         .how = {layout_named(from.layout),
                                 any_score(full{}),
                                 kernel_named(from.kernel),
                                 from.reproducible ? reproducible{}.name() : kernel_text(from.kernel),
                                 from.reproducible,
                                 {},
                                 format::bshd,
                                 {},
                                 saving::resend,
                                 from.trace.has_value(),
                                 0}};
    refuse_mixtures(from, what);
    if (what == attention_command::kind::compare) {
        if (from.strategy) to.strategies = strategy_name::parse_list(*from.strategy);
    } else {
        to.strategies.push_back(strategy_name::parse(from.strategy.value_or("serial")));
    }
    if (from.ranks) to.ranks = static_cast<int>(whole_number("--ranks", *from.ranks, 1, 1024));
    if (from.scale) to.how.scale = real_number("--scale", *from.scale);
    if (choice("--format", from.format, formats) == 1) to.how.order = format::bhsd;
    if (from.threads != "auto")
        to.how.threads_per_rank = static_cast<int>(whole_number("--threads-per-rank", from.threads, 1, 1024));
    if (from.storage) {
        const std::span<const std::string_view> all(storages);
        to.storage = static_cast<storage_type>(
            choice("--storage", *from.storage, from.against ? all : all.first(all.size() - 1)));
    }
    if (from.sample) to.how.sample = whole_number("--sample", *from.sample, 16, std::numeric_limits<index_t>::max());
    if (from.save && choice("--save", *from.save, saves) == 1) to.how.save = saving::keep;
    if (!from.dout)
        for (const auto& [option, given] :
             {std::pair("--grads", &from.grads), std::pair("--dlse", &from.dlse), std::pair("--save", &from.save)})
            if (*given)
                throw refusal(fmt::format("{} {} is of backward, which needs the gradient of the output: give --dout",
                                          option, **given));
    if (what == attention_command::kind::attend && from.dout && !from.grads)
        throw refusal(fmt::format("--dout {}: the gradients have no place: give --grads, a directory", *from.dout));
    return to;
}

/// The arguments, last first as CLI11 wants them. A number that begins with a minus would be taken for an option: it is
/// tied to the option that it belongs to.
[[nodiscard]] std::vector<std::string> arguments(int argc, const char* const* argv) {
    static constexpr std::array<std::string_view, 6> may_be_negative{"--scale", "--window",  "--q-offset",
                                                                     "--ranks", "--softcap", "--dropout"};
    std::vector<std::string> all;
    for (int i = 1; i < argc; ++i) {
        const std::string_view next = argv[i];
        const bool negative = next.size() > 1 && next[0] == '-' && next[1] != '-';
        if (negative && !all.empty() && std::ranges::find(may_be_negative, all.back()) != may_be_negative.end())
            all.back().append("=").append(next);
        else
            all.emplace_back(next);
    }
    std::ranges::reverse(all);
    return all;
}

/// The refusal of an argument that the command does not know, if there is one.
void refuse_unknown(const CLI::App& program, const CLI::App& within) {
    for (const std::string& argument : program.remaining(true)) {
        const std::string name = argument.substr(0, argument.find('='));
        std::vector<std::string> known;
        if (name.front() == '-')
            for (const CLI::Option* option : within.get_options())
                for (const std::string& word : option->get_lnames()) known.push_back("--" + word);
        else if (&within == &program)
            for (const CLI::App* other : within.get_subcommands({})) known.push_back(other->get_name());
        const std::vector<std::string_view> words(known.begin(), known.end());
        if (words.empty()) throw refusal(fmt::format("'{}' is one argument too many", argument));
        if (name.front() != '-')
            throw refusal(fmt::format("unknown command '{}': allowed are {}; nearest is {}", argument, list(words),
                                      nearest(name, words)));
        const bool is_long = name.size() > 2;
        throw refusal(fmt::format("unknown option '{}'{}; see {}{} --help", argument,
                                  is_long ? fmt::format(": nearest is {}", nearest(name, words)) : "",
                                  program.get_name(), &within == &program ? "" : " " + within.get_name()));
    }
}

} // namespace

command read_command_line(int argc, const char* const* argv, const std::string& program) {
    CLI::App app(about, program);
    app.set_version_flag("--version", fmt::format("{} {} ({} {}; kernel {})", program, version_string,
#if defined(__clang__)
                                                  "clang++", __clang_version__,
#else
                                                  "g++", __VERSION__,
#endif
                                                  kernel_text("flash")));
    app.require_subcommand(0, 1);
    app.footer(fmt::format(fmt::runtime(examples), program));
    app.get_formatter()->column_width(28);

    embed_texts embed;
    std::array<attention_texts, 3> texts;
    add_embed(app, embed);
    add_attention(app, texts[0], "attend", "Compute attention and write it");
    add_attention(app, texts[1], "verify",
                  "Compute attention, or take that of another program, and judge it against the definition in double");
    add_attention(app, texts[2], "compare", "Run every strategy that applies, verified, and print a table");

    const auto chosen = [&]() -> const CLI::App& {
        const std::vector<CLI::App*> all = app.get_subcommands();
        return all.empty() ? app : *all.front();
    };
    try {
        app.parse(arguments(argc, argv));
    } catch (const CLI::CallForVersion& version) {
        return nothing_to_do{version.what(), 0};
    } catch (const CLI::CallForHelp&) {
        return nothing_to_do{app.help(), 0};
    } catch (const CLI::ParseError& problem) {
        const CLI::App& within = chosen();
        refuse_unknown(app, within);
        throw refusal(fmt::format("{}; see {}{}{} --help", problem.what(), program, &within == &app ? "" : " ",
                                  &within == &app ? "" : within.get_name()));
    }

    const std::string name = chosen().get_name();
    if (name == "embed") return read(embed);
    if (name == "attend") return read(texts[0], attention_command::kind::attend);
    if (name == "verify") return read(texts[1], attention_command::kind::verify);
    if (name == "compare") return read(texts[2], attention_command::kind::compare);
    return nothing_to_do{app.help(), 2};
}

} // namespace seqpar::tool
