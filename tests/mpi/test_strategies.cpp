/// Strategies over MPI: the same loops, the same bounds, the same bytes.
#include <support/catch.hpp>

#include <strategy/product.hpp>
#include <support/gradient_case.hpp>

#include <seqpar/comm/mpi.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

template <class Strategy>
void check_everywhere(const Strategy& strategy, bool bitwise) {
    mpi_communicator world{boost::mpi::communicator()};
    for (const attention_shape& shape : small_shapes())
        for (const any_layout& layout : all_layouts())
            for (const any_score& s : {any_score(full{}), any_score(causal{} & sliding_window{9, 4})})
                CHECK(trouble_with<float>(world, strategy, flash{}, scheme_case{shape, layout, s, true, bitwise}) ==
                      "");
}

} // namespace

TEST_CASE("ulysses") { check_everywhere(ulysses<>{}, true); }
TEST_CASE("all_gather") { check_everywhere(all_gather{}, false); }
TEST_CASE("all_gather by ring and by doubling") {
    check_everywhere(all_gather{0, exchange_pattern::ring}, true);
    check_everywhere(all_gather{0, exchange_pattern::doubling}, true);
    check_everywhere(all_gather{1, exchange_pattern::doubling}, false);
}
TEST_CASE("all_gather that streams V") { check_everywhere(all_gather{2}, false); }
TEST_CASE("ring") { check_everywhere(ring{}, false); }
TEST_CASE("tree") { check_everywhere(tree{}, false); }
TEST_CASE("grid") { check_everywhere(grid{}, false); }
TEST_CASE("ulysses over ring") {
    const int size = boost::mpi::communicator().size();
    check_everywhere(ulysses<ring>{size % 2 == 0 ? 2 : 1, {}}, false);
}

TEST_CASE("gradients") {
    mpi_communicator world{boost::mpi::communicator()};
    int next = 0;
    for (const attention_shape& shape : small_shapes())
        for (const any_layout& layout : all_layouts())
            for (const saving save : {saving::keep, saving::resend}) {
                const any_score s = next % 3 == 0 ? any_score(full{}) : any_score(causal{} & sliding_window{9, 4});
                const gradient_case<double> c(shape, layout, s, next++ % 2 == 0, world.size());
                CHECK(c.trouble_with(world, ring{}, flash{}, save) == "");
                CHECK(c.trouble_with(world, all_gather{}, flash{}, save) == "");
                CHECK(c.trouble_with(world, all_gather{2}, flash{}, save) == "");
                CHECK(c.trouble_with(world, all_gather{0, exchange_pattern::ring}, flash{}, save) == "");
                CHECK(c.trouble_with(world, all_gather{2, exchange_pattern::doubling}, flash{}, save) == "");
                CHECK(c.trouble_with(world, tree{}, flash{}, save) == "");
                CHECK(c.trouble_with(world, grid{}, flash{}, save) == "");
                CHECK(c.trouble_with(world, ulysses<>{}, flash{}, save) == "");
                CHECK(c.trouble_with(world, ulysses<ring>{world.size() % 2 == 0 ? 2 : 1, {}}, flash{}, save) == "");
            }
}
