/// Every strategy on threads, on 1 2 3 4 7 ranks, over the product of layouts, scores and shapes: within the derived bound of
/// the definition, next to serial, bit for bit where the order of operations is serial's; messages, bytes, rounds and peak
/// memory equal to the formulas as integers, on every rank.
#include <support/catch.hpp>

#include "product.hpp"

#include <seqpar/comm/threads.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <mutex>
#include <string>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

/// Checks every n-th case of the product; n has no factor in common with the product's sides, so that the cases meet
/// every pair of them.
struct product {
    int every;
    int next = 0;

    template <class T = float, class Kernel = flash, class Strategy>
    void check(int ranks, const Strategy& strategy, const std::vector<attention_shape>& shapes, bool bitwise,
               const Kernel& kernel = {}) {
        for (const attention_shape& shape : shapes)
            for (const any_layout& layout : all_layouts())
                for (const any_score& s : all_scores())
                    for (const bool lse : {true, false}) {
                        if (next++ % every != 0) continue;
                        std::string trouble;
                        std::mutex mutex;
                        threads::run(ranks, [&](thread_communicator world) {
                            const std::string mine =
                                trouble_with<T>(world, strategy, kernel, scheme_case{shape, layout, s, lse, bitwise});
                            const std::lock_guard lock(mutex);
                            trouble += mine;
                        });
                        CHECK(trouble == "");
                    }
    }

    void all() {
        check(1, serial{}, small_shapes(), true);
        check<double>(1, serial{}, tiled_shapes(), true);
        for (const int p : {1, 2, 3, 4, 7}) {
            check(p, ulysses<>{}, small_shapes(), true);
            check(p, all_gather{}, small_shapes(), true);
            for (const int stream : {1, 2, 5}) check(p, all_gather{stream}, small_shapes(), false);
            check(p, ring{}, small_shapes(), false);
        }
        check(4, ulysses<>{}, tiled_shapes(), true);
        check(4, all_gather{}, tiled_shapes(), true);
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
        check<double>(3, all_gather{}, small_shapes(), true, reference{});
        check<float>(3, ring{}, small_shapes(), false, reference{});
    }
};

} // namespace

TEST_CASE("strategies, a seventh of the product") { product{7}.all(); }
TEST_CASE("strategies, the full product", "[slow]") { product{1}.all(); }
