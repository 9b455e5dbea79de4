#include "score_request.hpp"

#include "npy.hpp"
#include "words.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/bias.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/dropout.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/softcap.hpp>

#include <fmt/format.h>

#include <array>
#include <limits>
#include <string_view>
#include <utility>

namespace seqpar::tool {
namespace {

constexpr std::array<std::string_view, 2> alignments{"top-left", "bottom-right"};

[[nodiscard]] sliding_window window_of(const std::string& text, const alignment& align) {
    const std::size_t comma = text.find(',');
    if (comma == std::string::npos)
        throw refusal(
            fmt::format("--window '{}' is not of the form L,R: keys from p - L to p + R, each 0 or more, or -1 "
                        "for open (as in --window 127,0)",
                        text));
    const auto side = [&](const char* name, std::string_view number) {
        return whole_number(fmt::format("--window '{}': {} of", text, name), number, sliding_window::open,
                            alignment::limit);
    };
    const std::string_view whole = text;
    return {side("L", whole.substr(0, comma)), side("R", whole.substr(comma + 1)), align};
}

/// Calls f; what it refuses is said of `of`.
template <class F>
auto said_of(const std::string& of, const F& f) {
    try {
        return f();
    } catch (const refusal& why) {
        throw refusal(fmt::format("{}: {}", of, why.what()));
    }
}

const npy_wanted numbers_of_heads{{npy_type::float32, npy_type::float64}, 1, "[heads]"},
    boundaries{{npy_type::int32, npy_type::int64}, 1, "[documents + 1]"},
    pairs{{npy_type::float32, npy_type::float64, npy_type::boolean}, 4, "[batch or 1, heads or 1, Nq, Nk]"};

[[nodiscard]] std::vector<double> numbers(const std::string& path) {
    return load_list<double>(path, check_npy(path, numbers_of_heads));
}
[[nodiscard]] std::vector<index_t> cu_seqlens(const std::string& path) {
    return load_list<index_t>(path, check_npy(path, boundaries));
}

/// A score of a file: it is checked here, where its name is known.
template <class S>
[[nodiscard]] any_score checked(const std::string& of, const attention_shape& shape, const S& score) {
    said_of(of, [&] {
        check_score(score);
        check_score(score, shape);
    });
    return score;
}

template <class E>
[[nodiscard]] loaded_score bias_of(const std::string& path, const npy_header& header, const attention_shape& shape) {
    const auto array = load_elements<E>(path, header);
    const auto &n = array.shape, &step = array.step;
    return {checked(path, shape, bias<E>(array.data, {n[0], n[1], n[2], n[3]}, {step[0], step[1], step[2], step[3]})),
            array.owner};
}

[[nodiscard]] loaded_score bias_of(const std::string& path, const attention_shape& shape) {
    const npy_header header = check_npy(path, pairs);
    switch (header.type) {
    case npy_type::float32:
        return bias_of<float>(path, header, shape);
    case npy_type::float64:
        return bias_of<double>(path, header, shape);
    default:
        return bias_of<bool>(path, header, shape);
    }
}

} // namespace

score_request score_request::parse(const score_texts& from) {
    score_request to;
    to.causal = from.causal;
    if (from.align && from.q_offset)
        throw refusal(fmt::format("--align {} and --q-offset {} both say where query 0 stands: give one of them",
                                  *from.align, *from.q_offset));
    if (from.align && choice("--align", *from.align, alignments) == 1) to.align = alignment::bottom_right();
    if (from.q_offset)
        to.align = alignment::at(whole_number("--q-offset", *from.q_offset, -alignment::limit, alignment::limit));
    if (from.window) to.window = window_of(*from.window, to.align);
    if (from.softcap) {
        to.softcap = real_number("--softcap", *from.softcap);
        said_of("--softcap", [&] { seqpar::softcap(*to.softcap).check(); });
    }
    if (from.dropout) {
        to.dropout = real_number("--dropout", *from.dropout);
        said_of("--dropout", [&] { seqpar::dropout(*to.dropout).check(); });
    }
    if (from.seed && !from.dropout)
        throw refusal(fmt::format("--seed {} is of --dropout, which is not given: give both", *from.seed));
    if (from.seed)
        to.seed =
            static_cast<std::uint64_t>(whole_number("--seed", *from.seed, 0, std::numeric_limits<index_t>::max()));
    to.alibi = from.alibi, to.sinks = from.sinks, to.bias = from.bias;
    if (from.documents && (from.documents_q || from.documents_k))
        throw refusal("--documents is of Q and of K: give it, or --documents-q and --documents-k");
    if (from.documents_q.has_value() != from.documents_k.has_value())
        throw refusal(fmt::format("{} is given without {}: give both, or --documents for the two",
                                  from.documents_q ? "--documents-q" : "--documents-k",
                                  from.documents_q ? "--documents-k" : "--documents-q"));
    to.documents_q = from.documents ? from.documents : from.documents_q;
    to.documents_k = from.documents ? from.documents : from.documents_k;
    return to;
}

loaded_score load_score(const score_request& of, const attention_shape& shape) {
    any_score all = full{};
    bool any = false;
    std::shared_ptr<const void> owner;
    const auto add = [&](any_score s) {
        all = any ? all & std::move(s) : std::move(s);
        any = true;
    };
    if (of.documents_q) {
        const std::string name = of.documents_q == of.documents_k
                                     ? *of.documents_q
                                     : fmt::format("{}, {}", *of.documents_q, *of.documents_k);
        add(checked(name, shape, documents<>(cu_seqlens(*of.documents_q), cu_seqlens(*of.documents_k))));
    }
    if (of.causal) add(causal{of.align});
    if (of.window) add(*of.window);
    if (of.softcap) add(seqpar::softcap(*of.softcap));
    if (of.alibi)
        add(*of.alibi == "auto" ? any_score(seqpar::alibi::geometric(shape.heads, of.align))
                                : checked(*of.alibi, shape, seqpar::alibi(numbers(*of.alibi), of.align)));
    if (of.bias) {
        loaded_score loaded = bias_of(*of.bias, shape);
        owner = std::move(loaded.owner);
        add(std::move(loaded.score));
    }
    if (of.sinks) add(checked(*of.sinks, shape, sink(numbers(*of.sinks))));
    if (of.dropout) add(seqpar::dropout(*of.dropout, of.seed));
    return {std::move(all), std::move(owner)};
}

} // namespace seqpar::tool
