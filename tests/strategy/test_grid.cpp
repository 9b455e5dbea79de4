/// Grid on threads: held to all that tests/strategy/test_strategies.cpp holds the other strategies to.
#include <support/catch.hpp>

#include "thread_product.hpp"

#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ulysses.hpp>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct product : thread_product {
    void all() {
        for (const int p : {1, 2, 3, 4, 5, 6, 7, 8}) check(p, grid{}, small_shapes(), p == 1);
        check(2, grid{1, 2}, small_shapes(), false);
        check(3, grid{1, 3}, small_shapes(), false);
        check(4, grid{1, 4}, small_shapes(), false);
        check(5, grid{0, 5}, small_shapes(), false);
        check(6, grid{2, 3}, small_shapes(), false);
        check(8, grid{2, 4}, small_shapes(), false);
        check(8, grid{2, 0}, tiled_shapes(), false);
        check(4, grid{2, 2}, tiled_shapes(), false);
        check(8, ulysses<grid>{2, {2, 2}}, small_shapes(), false);

        check<double>(6, grid{3, 2}, small_shapes(), false);
        check<bfloat16>(4, grid{}, small_shapes(), false);
        check<bfloat16>(6, grid{2, 3}, tiled_shapes(), false);
    }
};

} // namespace

TEST_CASE("grid, a twenty-third of the product") { product{{23}}.all(); }
TEST_CASE("grid, the full product", "[slow]") { product{{1}}.all(); }
