/// @file
/// One scheme on one input: computed, judged, and its counted costs held to the predicted ones. For any communicator.
#pragma once

#include "random.hpp"

#include <seqpar/attention.hpp>
#include <seqpar/comm/metered.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/verify.hpp>

#include <memory>
#include <sstream>
#include <string>

namespace seqpar::testing {

struct scheme_case {
    attention_shape shape;
    any_layout layout;
    any_score score;
    bool lse = true;
    bool bitwise = false; ///< bits are to be those of serial
};

/// The rows that a rank holds of a whole sequence.
template <element T>
[[nodiscard]] tensor<T> local_rows(const tensor<T>& whole, const positions& at) {
    extents e = whole.shape();
    e.seq = at.size();
    tensor<T> rows(e);
    take_rows(whole.view(), at, rows.view());
    return rows;
}

/// What is wrong with a scheme on this rank; empty if nothing is. Collective.
template <real_element T, class Kernel, communicator C, class Strategy>
[[nodiscard]] std::string trouble_with(C world, const Strategy& how, const Kernel& kernel, const scheme_case& c) {
    const attention_shape& s = c.shape;
    const tensor<T> q = normal<T>({s.batch, s.queries, s.heads, s.dim}, 1),
                    k = normal<T>({s.batch, s.keys, s.kv_heads, s.dim}, 2),
                    v = normal<T>({s.batch, s.keys, s.kv_heads, s.dim_v}, 3);
    const int rank = world.rank(), size = world.size();
    const positions rows = c.layout.positions(rank, size, s.queries), keys = c.layout.positions(rank, size, s.keys);
    const tensor<T> my_q = local_rows(q, rows), my_k = local_rows(k, keys), my_v = local_rows(v, keys);

    const auto counted = std::make_shared<meter>();
    counted_memory memory;
    attention attend{metered<C>(world, counted),
                     how,
                     c.layout,
                     c.score,
                     kernel,
                     span_backend<T>{},
                     options{.lse = c.lse, .memory = &memory}};
    counted->reset();
    memory.reset_peak();
    const auto result = attend.forward(my_q, my_k, my_v);
    const auto sent = counted->payload();
    const std::size_t peak = memory.peak();
    const plan::cost predicted = attend.predict(s, rank);
    const report judged = verify(attend, my_q, my_k, my_v);

    std::ostringstream trouble;
    const auto same = [&](const char* what, auto have, auto want) {
        if (static_cast<std::size_t>(have) != static_cast<std::size_t>(want))
            trouble << "rank " << rank << ": " << what << " counted " << have << ", predicted " << want << '\n';
    };
    same("bytes", sent.bytes, predicted.bytes);
    same("messages", sent.messages, predicted.messages);
    if constexpr (!native_all_to_all<C>) same("rounds", sent.rounds, predicted.rounds); // a native call is no round
    same("peak memory", peak, predicted.memory);
    same("memory still held", memory.held(), 0);
    if (!judged.passed) trouble << judged.text() << '\n';
    if (c.bitwise && !judged.same_bits_as_serial) trouble << "other bits than serial: " << judged.text() << '\n';
    if (result.out.shape() != extents{s.batch, rows.size(), s.heads, s.dim_v})
        trouble << "out has shape " << result.out.shape() << '\n';
    std::string text = trouble.str();
    if (!text.empty()) {
        std::ostringstream title;
        title << attend.name() << ", rank " << rank << " of " << size << ", Nq " << s.queries << " Nk " << s.keys
              << " heads " << s.heads << '/' << s.kv_heads << " dim " << s.dim << '/' << s.dim_v << " batch " << s.batch
              << '\n';
        text = title.str() + text;
    }
    return text;
}

} // namespace seqpar::testing
