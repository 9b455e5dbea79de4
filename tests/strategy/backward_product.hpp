/// @file
/// The product for backward on threads: gradients against the definition, and counted costs against predicted ones.
#pragma once

#include "thread_product.hpp"

#include <support/backward_counts.hpp>
#include <support/gradient_case.hpp>

namespace seqpar::testing {

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
                                                 count_trouble_with<T>(world, strategy, kernel, {shape, layout, s},
                                                                       save, with_dlse);
                                      }) == "");
                            }
    }
};

} // namespace seqpar::testing
