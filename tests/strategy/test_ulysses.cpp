/// What head-parallel attention sends and holds, forward and backward, kept and sent again.
#include <support/backward_counts.hpp>
#include <support/catch.hpp>

#include "thread_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/ulysses.hpp>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct counts {
    int every;
    int next = 0;

    template <class T, class Strategy>
    void check(int ranks, const Strategy& strategy) {
        for (const attention_shape& shape : small_shapes())
            for (const any_layout& layout : all_layouts())
                for (const saving save : {saving::keep, saving::resend})
                    for (const bool lse_too : {false, true})
                        if (next++ % every == 0)
                            CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                                      return count_trouble_with<T>(
                                          world, strategy, flash{},
                                          scheme_case{shape, layout, any_score(causal{}), true, false}, save, lse_too);
                                  }) == "");
    }
    template <class T>
    void all() {
        check<T>(1, serial{});
        for (const int ranks : {1, 2, 3, 4, 5, 7, 8}) check<T>(ranks, ulysses<>{});
        check<T>(8, ulysses<ulysses<>>{2, {4, {}}});
        check<T>(8, ulysses<ulysses<>>{4, {}});
    }
};

} // namespace

TEST_CASE("backward and what is kept cost what is predicted, a part of the product") {
    counts{7}.all<float>();
    counts{11}.all<bfloat16>();
}
TEST_CASE("backward and what is kept cost what is predicted", "[slow]") {
    counts{1}.all<float>();
    counts{1}.all<bfloat16>();
}
TEST_CASE("the gradients of heads are summed over ranks at a predicted cost") {
    for (const int ranks : {1, 2, 3, 4, 7}) {
        const any_score s = any_score(causal{}) & sink({0.5, -1, 2, 0}) & alibi::geometric(4);
        CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                  return count_trouble_with<float>(
                      world, ulysses<>{}, reference{},
                      scheme_case{{1, 37, 37, 4, 2, 8, 8}, any_layout(zigzag{}), s, true, false}, saving::keep, true);
              }) == "");
    }
}
