/// @file
/// The product on threads: every n-th case of it, for any strategy.
#pragma once

#include "product.hpp"

#include <support/catch.hpp>

#include <seqpar/comm/threads.hpp>

#include <mutex>
#include <string>
#include <vector>

namespace seqpar::testing {

/// Runs f(world) on so many thread ranks and returns what they say, one after the other.
template <class F>
[[nodiscard]] std::string said_by_ranks(int ranks, const F& f) {
    std::string all;
    std::mutex mutex;
    threads::run(ranks, [&](thread_communicator world) {
        const std::string mine = f(world);
        const std::lock_guard lock(mutex);
        all += mine;
    });
    return all;
}

/// Checks every n-th case of the product; n has no factor in common with the product's sides, so that the cases meet
/// every pair of them.
struct thread_product {
    int every;
    int next = 0;

    template <class T = float, class Kernel = flash, class Strategy>
    void check(int ranks, const Strategy& strategy, const std::vector<attention_shape>& shapes, bool bitwise,
               const Kernel& kernel = {}) {
        for (const attention_shape& shape : shapes)
            for (const any_layout& layout : all_layouts())
                for (const any_score& s : all_scores())
                    for (const bool lse : {true, false})
                        if (next++ % every == 0)
                            CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                                      return trouble_with<T>(world, strategy, kernel,
                                                             scheme_case{shape, layout, s, lse, bitwise});
                                  }) == "");
    }
};

} // namespace seqpar::testing
