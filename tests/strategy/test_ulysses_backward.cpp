/// Gradients of head-parallel groups, nested ones too, under scores that depend on the head: each against the definition.
/// Heads that no group divides and kv heads that several members read, K and V of another length, with and without a
/// gradient into lse, kept and sent again.
#include <support/catch.hpp>
#include <support/changing_scores.hpp>
#include <support/gradient_case.hpp>

#include "thread_product.hpp"

#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/strategy/any_strategy.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <utility>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

using any = any_strategy<thread_communicator>;

void check(int ranks, const any& how, const attention_shape& of) {
    std::vector<changing_score> scores = changing_scores(of);
    std::swap(scores[1], scores[scores.size() - 3]); // slopes alone, over keys on both sides
    // the last two compose a mask, a cap, slopes, sinks, a bias and dropout
    for (std::size_t s = scores.size() - 3; s < scores.size(); ++s)
        for (const bool with_dlse : {false, true}) {
            const gradient_case<double> c(of, zigzag{}, scores[s].library, with_dlse, ranks, scores[s].oracle);
            for (const any_kernel& kernel : {any_kernel(reference{}), any_kernel(flash{})})
                CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                          return c.trouble_with(world, how, kernel, with_dlse ? saving::keep : saving::resend) +
                                 c.trouble_with(world, how, kernel, with_dlse ? saving::resend : saving::keep);
                      }) == "");
        }
}

} // namespace

TEST_CASE("gradients of ulysses, heads that ranks do not divide") {
    check(4, ulysses<>{}, {2, 23, 21, 6, 3, 8, 5});
    check(3, ulysses<>{}, {1, 23, 21, 4, 1, 4, 4});
}
TEST_CASE("gradients of ulysses over a ring and over itself") {
    check(4, ulysses<ring>{2, {}}, {1, 23, 21, 6, 2, 4, 5});
    check(8, ulysses<ulysses<ring>>{2, {2, {}}}, {1, 23, 21, 9, 3, 4, 4});
}
