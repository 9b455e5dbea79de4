/// @file
/// What backward of one scheme sends and holds, counted, against what is predicted. For any communicator.
#pragma once

#include "random.hpp"
#include "scheme_case.hpp"

#include <memory>
#include <sstream>
#include <string>

namespace seqpar::testing {

/// What is wrong with the counts of backward, and of a forward that keeps, on this rank; empty if nothing is. Collective.
template <real_element T, class Kernel, communicator C, class Strategy>
[[nodiscard]] std::string count_trouble_with(C world, const Strategy& how, const Kernel& kernel, const scheme_case& c,
                                             saving save, bool with_dlse) {
    using A = accumulator_t<T>;
    const attention_shape& s = c.shape;
    const int rank = world.rank(), size = world.size();
    const index_t rows = c.layout.positions(rank, size, s.queries).size(),
                  keys = c.layout.positions(rank, size, s.keys).size();
    const auto seed = static_cast<std::uint64_t>(rank);
    const tensor<T> q = normal<T>({s.batch, rows, s.heads, s.dim}, seed),
                    k = normal<T>({s.batch, keys, s.kv_heads, s.dim}, seed + 100),
                    v = normal<T>({s.batch, keys, s.kv_heads, s.dim_v}, seed + 200),
                    dout = normal<T>({s.batch, rows, s.heads, s.dim_v}, seed + 300);
    const tensor<A> dlse = normal<A>({s.batch, rows, s.heads, 1}, seed + 400);

    const auto counted = std::make_shared<meter>();
    counted_memory memory;
    attention attend{metered<C>(world, counted),
                     how,
                     c.layout,
                     c.score,
                     kernel,
                     span_backend<T>{},
                     options{.save = save, .memory = &memory}};
    std::ostringstream trouble;
    const auto run = [&](const char* pass, const plan::cost& predicted, const auto& call) {
        counted->reset();
        memory.reset_peak();
        auto result = call();
        const auto sent = counted->payload();
        const auto same = [&](const char* what, auto have, std::size_t want) {
            if (static_cast<std::size_t>(have) != want)
                trouble << "rank " << rank << ", " << pass << ": " << what << " counted " << have << ", predicted "
                        << want << '\n';
        };
        same("bytes", sent.bytes, predicted.bytes);
        same("messages", sent.messages, predicted.messages);
        if constexpr (!native_all_to_all<C>) same("rounds", sent.rounds, predicted.rounds); // a native call is no round
        same("peak memory", memory.peak(), predicted.memory);
        return result;
    };
    {
        const plan::cost predicted = attend.predict(s, rank);
        const auto fwd = run("forward", predicted, [&] { return attend.forward(q, k, v); });
        if (memory.held() != predicted.kept)
            trouble << "rank " << rank << ": keeps " << memory.held() << ", predicted " << predicted.kept << '\n';
        const auto g = run("backward", attend.predict_backward(s, rank, with_dlse), [&] {
            return attend.backward(dout, fwd, with_dlse ? tensor_view<const A>(dlse.view()) : tensor_view<const A>{});
        });
    }
    if (memory.held() != 0) trouble << "rank " << rank << ": still holds " << memory.held() << '\n';
    if (trouble.str().empty()) return {};
    std::ostringstream title;
    title << attend.name() << (save == saving::keep ? ", keep" : ", resend") << (with_dlse ? ", dlse" : "") << ", "
          << size << " ranks, Nq " << s.queries << " Nk " << s.keys << " heads " << s.heads << '/' << s.kv_heads
          << " dim " << s.dim << '/' << s.dim_v << '\n';
    return title.str() + trouble.str();
}

} // namespace seqpar::testing
