/// @file
/// Strategies with the kernel `reproducible`: judged, and their costs held to the predicted ones, though sums have another type.
#include <support/all_strategies.hpp>
#include <support/backward_counts.hpp>
#include <support/catch.hpp>
#include <support/scheme_case.hpp>

#include "thread_product.hpp"

#include <seqpar/kernel/reproducible.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/softcap.hpp>

using namespace seqpar;
using namespace seqpar::testing;

TEMPLATE_TEST_CASE("it is right, and costs what is predicted", "", float, bfloat16) {
    const scheme_case c{{1, 37, 41, 4, 2, 8, 6},
                        zigzag{},
                        any_score(causal{alignment::bottom_right()}) & softcap(2) & alibi({0.3, 0.1, 0.05, 0.01}) &
                            sink({1, 0, -1, 2})};
    for (const int ranks : {1, 3, 4})
        for (const auto& how : all_strategies<metered<thread_communicator>, reproducible>(ranks))
            CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                      return trouble_with<TestType>(world, how, reproducible{}, c) +
                             count_trouble_with<TestType>(world, how, reproducible{}, c,
                                                          ranks == 3 ? saving::keep : saving::resend, ranks == 4);
                  }) == "");
}
