#include "attention_options.hpp"

#include "choices.hpp"
#include "words.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/kernel/reproducible.hpp>
#include <seqpar/score/full.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <array>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

namespace seqpar::tool {
namespace {

constexpr const char* strategies_help =
    "serial, ulysses[:degree][/inner], all-gather[:ring|:doubling][:stream=c], "
    "ring[:bidirectional|:double=w|:pass=q|:pass=auto], tree, grid[:PaxPc]; as in ulysses:2/ring";

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

} // namespace

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

attention_command read(const attention_texts& from, attention_command::kind what) {
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

} // namespace seqpar::tool
