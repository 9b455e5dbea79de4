/// @file
/// The product for backward on threads: gradients against the definition, and counted costs against predicted ones.
#pragma once

#include "thread_product.hpp"

#include <support/gradient_case.hpp>

#include <memory>
#include <sstream>
#include <string>

namespace seqpar::testing {

/// What is wrong on this rank with what backward sends and holds; empty if nothing is. Collective.
template <class T, class Kernel, communicator C, class Strategy>
[[nodiscard]] std::string backward_cost_trouble(C world, const Strategy& strategy, const Kernel& kernel,
                                                const gradient_case<T>& c, saving save) {
    const int rank = world.rank(), size = world.size();
    const positions rows = c.layout.positions(rank, size, c.shape.queries),
                    keys = c.layout.positions(rank, size, c.shape.keys);
    const tensor<T> q = local_rows(c.q, rows), k = local_rows(c.k, keys), v = local_rows(c.v, keys),
                    dout = local_rows(c.dout, rows);
    tensor<accumulator_t<T>> dlse({c.shape.batch, rows.size(), c.shape.heads, 1});
    copy(local_rows(c.dlse, rows).view(), dlse.view());
    const auto counted = std::make_shared<meter>();
    counted_memory memory;
    std::ostringstream trouble;
    const auto same = [&](const char* what, auto have, auto want) {
        if (static_cast<std::size_t>(have) != static_cast<std::size_t>(want))
            trouble << what << " counted " << have << ", predicted " << want << '\n';
    };
    {
        attention attend{metered<C>(world, counted),
                         strategy,
                         kernel,
                         c.layout,
                         c.score,
                         span_backend<T>{},
                         options{.scale = c.scale, .save = save, .memory = &memory}};
        memory.reset_peak();
        const auto fwd = attend.forward(q, k, v);
        same("peak memory of forward", memory.peak(), attend.predict(c.shape, rank).memory);
        counted->reset();
        memory.reset_peak();
        static_cast<void>(attend.backward(
            dout, fwd, c.with_dlse ? std::as_const(dlse).view() : tensor_view<const accumulator_t<T>>{}));
        const plan::cost told = attend.predict_backward(c.shape, rank, c.with_dlse);
        same("bytes", counted->payload().bytes, told.bytes);
        same("messages", counted->payload().messages, told.messages);
        same("rounds", counted->payload().rounds, told.rounds);
        same("peak memory", memory.peak(), told.memory);
    }
    same("memory still held", memory.held(), 0);
    if (trouble.str().empty()) return {};
    return "costs of backward: " + strategy.name() + ", " + c.layout.name() + ", " + c.score.name() + ", rank " +
           std::to_string(rank) + " of " + std::to_string(size) + (save == saving::keep ? ", keep" : ", resend") +
           (c.with_dlse ? ", dlse\n" : "\n") + trouble.str();
}

/// Checks every n-th case of the product of shapes, layouts, scores, what is kept, and a gradient into lse.
struct backward_product {
    int every;
    int next = 0;

    template <class T = float, class Kernel = flash, class Strategy>
    void check(int ranks, const Strategy& strategy, const Kernel& kernel = {}) {
        for (const attention_shape& shape : small_shapes())
            for (const any_layout& layout : all_layouts())
                for (const any_score& s : all_scores())
                    for (const saving save : {saving::keep, saving::resend})
                        for (const bool with_dlse : {false, true})
                            if (next++ % every == 0) {
                                const gradient_case<T> c(shape, layout, s, with_dlse, ranks);
                                CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                                          return c.trouble_with(world, strategy, kernel, save) +
                                                 costs(world, strategy, kernel, c, save);
                                      }) == "");
                            }
    }

private:
    template <class T, class Kernel, class Strategy>
    static std::string costs(thread_communicator world, const Strategy& strategy, const Kernel& kernel,
                             const gradient_case<T>& c, saving save) {
        if constexpr (requires(const plan::problem& p) { strategy.predict_backward(p, 0); })
            return backward_cost_trouble(world, strategy, kernel, c, save);
        else
            return {};
    }
};

} // namespace seqpar::testing
