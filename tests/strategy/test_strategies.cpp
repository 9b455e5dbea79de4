/// Every strategy on threads, on 1 2 3 4 7 ranks, over the product of layouts, scores and shapes: within the derived bound of
/// the definition, next to serial, bit for bit where the order of operations is serial's; messages, bytes, rounds and peak
/// memory equal to the formulas as integers, on every rank.
#include <support/catch.hpp>

#include "thread_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/ulysses.hpp>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct product : thread_product {
    void all() {
        check(1, serial{}, small_shapes(), true);
        check<double>(1, serial{}, tiled_shapes(), true);
        for (const int p : {1, 2, 3, 4, 7}) {
            check(p, ulysses<>{}, small_shapes(), true);
            check(p, all_gather{}, small_shapes(), false); // rows that are not seen are not there to be skipped
            for (const int stream : {1, 2, 5}) check(p, all_gather{stream}, small_shapes(), false);
            check(p, ring{}, small_shapes(), false);
        }
        check(4, ulysses<>{}, tiled_shapes(), true);
        check(4, all_gather{}, tiled_shapes(), false);
        check(4, all_gather{0, exchange_pattern::doubling}, tiled_shapes(), true);
        check(4, all_gather{2}, tiled_shapes(), false);
        check(4, ring{}, tiled_shapes(), false);

        check(4, ulysses<ring>{2, {}}, small_shapes(), false);
        check(4, ulysses<ring>{2, {}}, tiled_shapes(), false);
        check(4, ulysses<all_gather>{2, {}}, small_shapes(), false);
        check(6, ulysses<ring>{3, {}}, small_shapes(), false);
        check(6, ulysses<all_gather>{2, {1}}, small_shapes(), false);
        check(8, ulysses<ulysses<ring>>{2, {2, {}}}, small_shapes(), false);
        check(4, ulysses<ulysses<>>{2, {}}, small_shapes(), false);

        check<double>(3, ring{}, small_shapes(), false);
        check<double>(4, ulysses<ring>{2, {}}, small_shapes(), false);
        check<bfloat16>(3, ring{}, small_shapes(), false);
        check<bfloat16>(3, ulysses<>{}, small_shapes(), true);
        check<bfloat16>(4, all_gather{1}, tiled_shapes(), false);

        check<double>(3, ulysses<>{}, small_shapes(), true, reference{});
        check<double>(3, all_gather{0, exchange_pattern::ring}, small_shapes(), true, reference{});
        check<float>(3, ring{}, small_shapes(), false, reference{});
    }
};

} // namespace

TEST_CASE("strategies, a seventh of the product") { product{{7}}.all(); }
TEST_CASE("strategies, the full product", "[slow]") { product{{1}}.all(); }
