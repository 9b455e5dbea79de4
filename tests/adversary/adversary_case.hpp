/// @file
/// One attention, forward and backward, and one step of decoding, small enough to be run thousands of times on ranks that
/// misbehave; and what they give where nobody does.
#pragma once

#include <support/all_strategies.hpp>
#include <support/random.hpp>

#include <seqpar/attention.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/decode.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/causal.hpp>

#include <cmath>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace seqpar::testing {

inline constexpr index_t adversary_queries = 13, adversary_keys = 17;

/// Whole tensors, and what serial attention makes of them.
struct whole_attention {
    tensor<double> q = normal<double>({1, adversary_queries, 4, 4}, 1),
                   k = normal<double>({1, adversary_keys, 2, 4}, 2), v = normal<double>({1, adversary_keys, 2, 3}, 3),
                   dout = normal<double>({1, adversary_queries, 4, 3}, 4), out, lse, dq, dk, dv;
    tensor<double> new_q = normal<double>({1, 2, 4, 4}, 5), decoded; // the queries of the last two keys

    whole_attention() {
        attention alone{span_backend<double>{}, any_kernel(reference{}), any_score(causal{alignment::bottom_right()})};
        const auto r = alone.forward(q, k, v);
        auto g = alone.backward(dout, r);
        out = copy_of(r.out), lse = copy_of(r.lse);
        dq = std::move(g.dq), dk = std::move(g.dk), dv = std::move(g.dv);
        decoded = copy_of(alone.forward(new_q, k, v).out);
    }
    [[nodiscard]] static const whole_attention& get() {
        static const whole_attention once;
        return once;
    }
};

/// What differs from the rows that this rank should have; empty if nothing does.
[[nodiscard]] inline std::string difference(const char* what, const tensor_view<const double>& have,
                                            const tensor<double>& whole, const positions& at) {
    const extents& e = have.shape();
    if (e.seq != at.size()) return std::string(what) + " has " + std::to_string(e.seq) + " rows\n";
    for (index_t i = 0; i < e.seq; ++i)
        for (index_t h = 0; h < e.heads; ++h)
            for (index_t d = 0; d < e.dim; ++d) {
                const double want = whole(0, at[i].value, h, d), is = have(0, i, h, d);
                if (!(is == want || std::abs(is - want) <= 1e-12)) // 1e-12: thousands of roundings of values near 1
                    return std::string(what) + " is " + std::to_string(is) + " and should be " + std::to_string(want) +
                           " in row " + std::to_string(at[i].value) + '\n';
            }
    return {};
}

/// A forward and a backward on this rank; throws if a value is off. Collective.
template <communicator C>
void attend_on(const C& world, const any_strategy<C>& strategy, std::pmr::memory_resource* memory = nullptr,
               saving save = saving::resend) {
    const whole_attention& all = whole_attention::get();
    const int rank = world.rank(), size = world.size();
    const positions rows = zigzag{}.positions(rank, size, adversary_queries),
                    keys = zigzag{}.positions(rank, size, adversary_keys);
    const auto part = [](const tensor<double>& whole, const positions& at) {
        return whole_run<double>::part(whole, at);
    };
    const tensor<double> q = part(all.q, rows), k = part(all.k, keys), v = part(all.v, keys);
    attention attend{C(world),
                     strategy,
                     zigzag{},
                     span_backend<double>{},
                     any_kernel(reference{}),
                     any_score(causal{alignment::bottom_right()}),
                     options{.save = save, .memory = memory}};
    const auto r = attend.forward(q, k, v);
    const auto g = attend.backward(part(all.dout, rows), r);
    const std::string trouble =
        difference("out", r.out.view(), all.out, rows) + difference("lse", r.lse.view(), all.lse, rows) +
        difference("dq", g.dq.view(), all.dq, rows) + difference("dk", g.dk.view(), all.dk, keys) +
        difference("dv", g.dv.view(), all.dv, keys);
    if (!trouble.empty()) throw error(attend.name() + ", rank " + std::to_string(rank) + ": " + trouble);
}

/// A step of decoding of the last two of all keys, likewise.
template <communicator C>
void decode_on(const C& world, std::pmr::memory_resource* memory = nullptr) {
    const whole_attention& all = whole_attention::get();
    kv_cache<double> cache(world, {.batch = 1, .kv_heads = 2, .dim = 4, .dim_v = 3});
    decode attend{C(world), causal{}, reference{}, options{.memory = memory}};
    cache.append(all.k, all.v);
    const auto step = attend.step(all.new_q, cache);
    const std::string trouble = difference("out", std::as_const(step.out).view(), all.decoded, positions::whole(2));
    if (!trouble.empty()) throw error("decode, rank " + std::to_string(world.rank()) + ": " + trouble);
}

/// Calls f(name, work) for every strategy on so many ranks, and for decoding: work(communicator, memory) is what a rank does.
template <communicator C, class F>
void each_work(int ranks, const F& f) {
    for (const auto& strategy : all_strategies<C>(ranks))
        f(strategy.name(), [&strategy](const C& world, std::pmr::memory_resource* memory = nullptr) {
            attend_on(world, strategy, memory);
        });
    f(std::string("decode"),
      [](const C& world, std::pmr::memory_resource* memory = nullptr) { decode_on(world, memory); });
}

/// Whether all of the parts are in a text, in their order.
[[nodiscard]] inline bool has_in_order(const std::string& text, std::initializer_list<std::string> parts) {
    std::size_t at = 0;
    for (const std::string& part : parts) {
        at = text.find(part, at);
        if (at == std::string::npos) return false;
        at += part.size();
    }
    return true;
}

} // namespace seqpar::testing
