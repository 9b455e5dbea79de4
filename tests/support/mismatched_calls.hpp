/// @file
/// Calls that differ between ranks. Each must be refused on every rank, with the same words, which name the rank, and the
/// group must be as usable as before. On any communicator.
#pragma once

#include "all_strategies.hpp"
#include "random.hpp"

#include <seqpar/attention.hpp>
#include <seqpar/comm/collectives.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/score_function.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/score/softcap.hpp>

#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::testing {

/// What a rank asks for. The first group of members is that of the constructor, the second that of forward and backward.
template <communicator C>
struct asked_call {
    any_strategy<C> strategy = ring{};
    any_layout layout = contiguous{};
    any_score score = full{};
    any_kernel kernel = reference{};
    options how = {};

    extents q{1, 3, 4, 4}, k{1, 3, 2, 4}, v{1, 3, 2, 4};
    bool in_double = false;
    bool into_lse = false;      // backward has a dlse
    bool forward_again = false; // where others call backward

    template <class T>
    void run(C world) const {
        attention attend{world, strategy, layout, score, kernel, span_backend<T>{}, how};
        const auto x = normal<T>(q, 1), y = normal<T>(k, 2), z = normal<T>(v, 3);
        const auto r = attend.forward(x, y, z);
        if (forward_again) {
            static_cast<void>(attend.forward(x, y, z));
            return;
        }
        const auto dout = normal<T>(r.out.shape(), 4);
        const tensor<accumulator_t<T>> dlse = normal<accumulator_t<T>>({q.batch, q.seq, q.heads, 1}, 5);
        static_cast<void>(attend.backward(dout, r, into_lse ? dlse.view() : tensor_view<const accumulator_t<T>>{}));
    }
};

/// What differs on one rank, and what the refusal says besides the rank.
template <communicator C>
struct mismatch {
    std::string name;
    std::function<void(asked_call<C>&)> all, odd;
    std::string said;
};

template <communicator C>
[[nodiscard]] std::vector<mismatch<C>> mismatches() {
    using call = asked_call<C>;
    const auto none = [](call&) {};
    const auto with_score = [](std::string name, any_score one, any_score other) {
        return mismatch<C>{std::move(name), [one](call& c) { c.score = one; }, [other](call& c) { c.score = other; },
                           other.name()};
    };
    const std::string long_name(300, 'x');
    const auto named = [](const std::string& name) {
        return any_score(score_function(
            name, [](double s, index_t, index_t, index_t, index_t) { return s; },
            [](double, index_t, index_t, index_t, index_t) { return 1.0; }));
    };
    return {
        {"batch", none, [](call& c) { c.q.batch = c.k.batch = c.v.batch = 2; }, "batch 2"},
        {"heads", none, [](call& c) { c.q.heads = 8; }, "heads 8"},
        {"kv_heads", none, [](call& c) { c.k.heads = c.v.heads = 4; }, "kv_heads 4"},
        {"head_dim", none, [](call& c) { c.q.dim = c.k.dim = 8; }, "head_dim of Q 8"},
        {"head_dim of V", none, [](call& c) { c.v.dim = 8; }, "head_dim of V 8"},
        {"within a rank", none, [](call& c) { c.k.dim = 8; }, "head_dim of Q is 4 and of K is 8"},
        {"rows", none, [](call& c) { c.q.seq = 7; }, "rows of Q"},
        {"element type", none, [](call& c) { c.in_double = true; }, "element type double"},
        {"strategy", none, [](call& c) { c.strategy = tree{}; }, "scheme tree"},
        {"parameter of a strategy", [](call& c) { c.strategy = all_gather{1}; },
         [](call& c) { c.strategy = all_gather{2}; }, "scheme all-gather"},
        {"what a ring passes", none,
         [](call& c) {
             c.strategy = ring{ring_route::one_way(), ring_passing::queries};
         },
         "scheme ring"},
        {"layout", none, [](call& c) { c.layout = striped{}; }, "striped"},
        {"kernel", none, [](call& c) { c.kernel = flash{}; }, "flash"},
        with_score("score", full{}, causal{}),
        with_score("alignment", causal{}, causal{alignment::bottom_right()}),
        with_score("window", sliding_window{2, 1}, sliding_window{2, 2}),
        with_score("cap", softcap{50}, softcap{50.000000000000007}),
        with_score("slopes", alibi(std::vector<double>{0.5, 0.25, 0.125, 0.1}),
                   alibi(std::vector<double>{0.5, 0.25, 0.125, 0.2})),
        with_score("sinks", sink(std::vector<double>{0.5, 0.25, 0.125, 0.1}),
                   sink(std::vector<double>{0.5, 0.25, 0.125, 0.2})),
        {"the end of a long name", [=](call& c) { c.score = named(long_name + "a"); },
         [=](call& c) { c.score = named(long_name + "b"); }, "xxx... "},
        {"scale", none, [](call& c) { c.how.scale = 0.25; }, "scale 0.25"},
        {"lse", none, [](call& c) { c.how.lse = false; }, "lse wanted 0"},
        {"save", none, [](call& c) { c.how.save = saving::keep; }, "options::save (0 resend, 1 keep) 1"},
        {"check", none, [](call& c) { c.how.check = check_level::own_rank; },
         "options::check (0 all ranks, 1 own rank, 2 none) 1"},
        {"pass", none, [](call& c) { c.forward_again = true; }, "pass (0 forward, 1 backward, 2 backward with dlse) 0"},
        {"dlse", none, [](call& c) { c.into_lse = true; }, "pass (0 forward, 1 backward, 2 backward with dlse) 2"},
    };
}

/// The texts of all ranks, of at most 600 characters. Collective.
template <communicator C>
[[nodiscard]] std::vector<std::string> texts_of_all(C& c, const std::string& mine) {
    using note = std::array<char, 600>;
    note sent{};
    mine.copy(sent.data(), sent.size() - 1);
    std::vector<note> all(static_cast<std::size_t>(c.size()));
    collective::all_gather_doubling(c, outgoing{reinterpret_cast<const std::byte*>(&sent), sizeof sent},
                                    reinterpret_cast<std::byte*>(all.data()));
    std::vector<std::string> texts;
    for (const note& each : all) texts.emplace_back(each.data());
    return texts;
}

/// What is wrong with how a mismatch is refused, the same on all ranks; empty if nothing is. `odd` is the rank that differs.
/// Collective.
template <communicator C>
[[nodiscard]] std::string trouble_with_refusal(C world, const mismatch<C>& what, int odd) {
    asked_call<C> mine;
    what.all(mine);
    if (world.rank() == odd) what.odd(mine);
    std::string text;
    try {
        if (mine.in_double)
            mine.template run<double>(world);
        else
            mine.template run<float>(world);
        text = "not refused";
    } catch (const refusal& why) {
        text = why.what();
    }
    const auto all = texts_of_all(world, text);
    for (const std::string& other : all)
        if (other != all.front()) return what.name + ": told differently: " + all.front() + " / " + other;
    // Rank 0 is the measure: where it is the odd one, the first of the others is named, and their value told second.
    const bool names_rank = text.find("rank " + std::to_string(odd)) != std::string::npos;
    if (!names_rank && what.name != "rows")
        return what.name + ": names another rank than " + std::to_string(odd) + ": " + text;
    if (odd != 0 && text.find(what.said) == std::string::npos)
        return what.name + ": does not say " + what.said + ": " + text;
    // The group is as good as new.
    asked_call<C> right;
    right.template run<float>(world);
    return {};
}

} // namespace seqpar::testing
