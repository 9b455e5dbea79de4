/// The command line: any words are a command within its limits, a text to show, or are refused with a message. Nothing that
/// a command line asks for is done here, and no file is opened. Words are separated by line ends.
#include "finding.hpp"

#include "../../tools/seqpar/command_line.hpp"

#include <seqpar/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace {

using namespace seqpar::tool;
using seqpar_fuzz::expect_a_message;
using seqpar_fuzz::finding;

/// Each word ends at a NUL, as the arguments of a program do.
[[nodiscard]] std::vector<std::string> words_of(const std::uint8_t* data, std::size_t size) {
    std::vector<std::string> words{"seqpar"};
    bool within = false;
    for (std::size_t i = 0; i < size; ++i) {
        const char c = static_cast<char>(data[i]);
        if (c == '\n' || c == '\0') {
            if (!within) words.emplace_back(); // an argument may be empty
            within = false;
        } else {
            if (!within) words.emplace_back();
            words.back() += c;
            within = true;
        }
    }
    return words;
}

void expect(bool true_of_it, const char* what) {
    if (!true_of_it) finding(std::string("a command was accepted, but ") + what);
}

void check(const nothing_to_do& told) {
    expect(!told.text.empty(), "there is nothing to do and nothing to show");
    expect(told.status == 0 || told.status == 2, "its status is neither 0 nor 2");
}
void check(const embed_command& c) {
    constexpr seqpar::index_t most = 1 << 20;
    expect(c.heads >= 1 && c.heads <= most && c.kv_heads >= 1 && c.heads % c.kv_heads == 0, "heads are out of range");
    expect(c.head_dim >= 1 && c.head_dim <= most, "head_dim is out of range");
    expect(!c.max_tokens || *c.max_tokens >= 0, "max_tokens is negative");
}
void check(const attention_command& c) {
    const bool compares = c.what == attention_command::kind::compare;
    expect(compares || c.strategies.size() == 1, "it has not one strategy");
    expect(!c.ranks || (*c.ranks >= 1 && *c.ranks <= 1024), "ranks are out of range");
    expect(!c.how.threads_per_rank || (*c.how.threads_per_rank >= 1 && *c.how.threads_per_rank <= 1024),
           "threads are out of range");
    expect(!c.how.scale || std::isfinite(*c.how.scale), "its scale is not finite");
    expect(c.what != attention_command::kind::attend || c.out, "there is no place for the output");
    expect(c.dout || !(c.dlse || c.grads), "it has a gradient without dout");
    expect(c.how.trace == c.trace.has_value(), "a trace is written to nowhere");
    const score_request& s = c.score;
    expect(!s.softcap || (std::isfinite(*s.softcap) && *s.softcap > 0), "its cap is not above 0");
    expect(!s.dropout || (*s.dropout >= 0 && *s.dropout < 1), "its dropout is no probability below 1");
    expect(s.documents_q.has_value() == s.documents_k.has_value(), "documents are of one side");
    if (s.window) s.window->check();
    s.align.check();
}

void check(const machines_command&) {}
void check(const calibrate_command& c) {
    expect(!c.ranks || (*c.ranks >= 1 && *c.ranks <= 1024), "ranks are out of range");
    expect(!c.out || c.out->ends_with(".json"), "its file is none that --machine takes");
}

void check(const planning_request& of) {
    const seqpar::attention_shape& s = of.work.shape;
    for (const seqpar::index_t n : {s.queries, s.heads, s.kv_heads, s.dim, s.batch})
        expect(n >= 1, "an extent is below 1");
    expect(s.queries == s.keys && s.dim == s.dim_v && s.heads % s.kv_heads == 0, "its shape is none");
    expect(static_cast<double>(s.queries) * static_cast<double>(s.heads * s.dim) * static_cast<double>(s.batch) <=
               0x1p44,
           "its elements cannot be counted");
    expect(of.ranks >= 1 && of.ranks <= 1 << 20, "ranks are out of range");
}
void check(const plan_command& c) {
    check(c.of);
    expect(c.top >= 1, "its table has no rows");
    expect(!c.of.work.keep, "what is kept is decided");
}
void check(const simulate_command& c) {
    check(c.of);
    expect(!c.strategies.empty(), "it has no strategy");
    expect(c.of.work.train || !c.of.work.keep, "forward keeps for no backward");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<std::string> words = words_of(data, size);
    std::vector<const char*> argv;
    std::transform(words.begin(), words.end(), std::back_inserter(argv),
                   [](const std::string& w) { return w.c_str(); });
    argv.push_back(nullptr);
    try {
        const command what = read_command_line(static_cast<int>(words.size()), argv.data(), "seqpar");
        try {
            std::visit([](const auto& c) { check(c); }, what);
        } catch (const seqpar::refusal& why) {
            finding(std::string("a command was accepted whose parts are refused: ") + why.what());
        }
    } catch (const seqpar::refusal& why) {
        expect_a_message(why.what());
    }
    return 0;
}
