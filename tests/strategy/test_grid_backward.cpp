/// Backward of grid on threads: the gradients of the global function, at the predicted cost.
#include "backward_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <mutex>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct product : backward_product {
    void all() {
        for (const int p : {1, 2, 3, 4, 5, 6, 7, 8}) check(p, grid{});
        check(3, grid{1, 3});
        check(4, grid{1, 4});
        check(6, grid{2, 3});
        check(8, grid{2, 4});
        check(8, ulysses<grid>{2, {2, 2}});
        check<double>(6, grid{3, 2}, reference{});
        check<double>(4, grid{2, 2}, reference{});
        check<bfloat16>(8, grid{4, 2});
    }
};

} // namespace

TEST_CASE("gradients of grid, a part of the product") { product{{43}}.all(); }
TEST_CASE("gradients of grid, the full product", "[slow]") { product{{1}}.all(); }
