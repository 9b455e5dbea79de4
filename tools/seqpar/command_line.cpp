#include "command_line.hpp"

#include "attention_options.hpp"
#include "choices.hpp"
#include "embed_options.hpp"
#include "machine_options.hpp"
#include "planning_options.hpp"
#include "words.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/version.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
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
  {0} calibrate -o this.json
  {0} plan --tokens 1M --heads 32 --kv-heads 8 --ranks 256 --machine h100 --causal --train
  {0} simulate --strategy ulysses:8/ring --layout zigzag --tokens 1M --heads 32 --kv-heads 8 --ranks 256 --machine h100 --causal

Exit status: 0 right, 1 a verification failed, 2 refused.)";

/// The arguments, last first as CLI11 wants them. A number that begins with a minus would be taken for an option: it is
/// tied to the option that it belongs to.
[[nodiscard]] std::vector<std::string> arguments(int argc, const char* const* argv) {
    static constexpr std::array<std::string_view, 8> may_be_negative{"--scale",   "--window",  "--q-offset", "--ranks",
                                                                     "--softcap", "--dropout", "--tokens",   "--batch"};
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

    machines_texts machines;
    calibrate_texts calibrate;
    add_machines(app, machines);
    add_calibrate(app, calibrate);

    plan_texts plan;
    simulate_texts simulate;
    add_plan(app, plan);
    add_simulate(app, simulate);

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
    if (name == "machines") return read(machines);
    if (name == "calibrate") return read(calibrate);
    if (name == "plan") return read(plan);
    if (name == "simulate") return read(simulate);
    return nothing_to_do{app.help(), 2};
}

} // namespace seqpar::tool
