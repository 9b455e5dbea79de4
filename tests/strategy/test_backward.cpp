/// Backward of every strategy on threads: the gradients of the global function, within derived bounds of a definition that
/// knows nothing of the library, for what is kept and for what is sent again.
#include <support/catch.hpp>
#include <support/gradient_case.hpp>

#include "backward_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/ulysses.hpp>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct product : backward_product {
    template <class T, class Kernel>
    void all(const Kernel& kernel) {
        check<T>(1, serial{}, kernel);
        for (const int p : {1, 2, 3, 4, 7}) {
            check<T>(p, ring{}, kernel);
            check<T>(p, all_gather{}, kernel);
            check<T>(p, all_gather{2}, kernel);
            check<T>(p, ulysses<>{}, kernel);
        }
        check<T>(4, ulysses<ring>{2, {}}, kernel);
        check<T>(6, ulysses<all_gather>{3, {1}}, kernel);
        check<T>(8, ulysses<ulysses<ring>>{2, {2, {}}}, kernel);
    }
};

} // namespace

TEST_CASE("gradients in double, a part of the product") { product{{11}}.all<double>(reference{}); }
TEST_CASE("gradients in float and bfloat16 by flash, a part of the product") {
    product{{13}}.all<float>(flash{});
    product{{29}}.all<bfloat16>(flash{});
}
TEST_CASE("gradients of packed documents") {
    const any_score packed(
        causal{alignment::bottom_right()} &
        documents<>({0, 5, 5, 18, 31}, {0, 9, 12, 20, 37})); // one without queries, rows beyond the last
    for (const any_layout& layout : all_layouts())
        for (const saving save : {saving::keep, saving::resend}) {
            const gradient_case<double> c({2, 37, 37, 6, 3, 16, 5}, layout, packed, true, 4);
            CHECK(said_by_ranks(4, [&](thread_communicator world) {
                      return c.trouble_with(world, ring{}, flash{}, save) +
                             c.trouble_with(world, all_gather{1}, flash{}, save) +
                             c.trouble_with(world, ulysses<>{}, flash{}, save) +
                             c.trouble_with(world, ulysses<ring>{2, {}}, flash{}, save);
                  }) == "");
        }
}
TEST_CASE("gradients, the full product", "[slow]") {
    product{{1}}.all<double>(reference{});
    product{{1}}.all<float>(flash{});
}
