/// Strategies over MPI: the same loops, the same bounds, the same bytes.
#include <support/catch.hpp>

#include <strategy/product.hpp>
#include <support/all_strategies.hpp>
#include <support/backward_counts.hpp>
#include <support/changing_scores.hpp>
#include <support/gradient_case.hpp>

#include <seqpar/comm/mpi.hpp>
#include <seqpar/score/dropout.hpp>
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

TEST_CASE("every strategy, forward and backward, with scores that change values, at the predicted cost") {
    using counting = metered<mpi_communicator>;
    const mpi_communicator mpi{boost::mpi::communicator()};
    const int size = mpi.size();
    const std::vector<attention_shape> shapes{{1, 37, 37, 4, 4, 8, 8},
                                              {2, 37, 37, 6, 3, 16, 5},
                                              {1, 29, 53, 9, 3, 4, 12},
                                              {1, 3, 3, 4, 2, 8, 8},
                                              {1, 0, 7, 2, 1, 4, 4}};
    std::size_t next = 0;
    for (const auto& how : all_strategies<counting>(size))
        for (const saving save : {saving::keep, saving::resend})
            for (int turn = 0; turn < 3; ++turn) {
                const attention_shape& shape = shapes[next % shapes.size()];
                const any_layout layout = all_layouts()[next / 2 % 3];
                const std::vector<changing_score> scores = changing_scores(shape);
                const std::vector<any_score> masks = all_scores();
                const std::size_t pick = next * 5 % (scores.size() + masks.size());
                const bool with_dlse = next++ % 3 == 0;
                const any_score s = pick < masks.size() ? masks[pick] : scores[pick - masks.size()].library;
                const gradient_case<double> c(shape, layout, s, with_dlse, size,
                                              pick < masks.size() ? naive_score{} : scores[pick - masks.size()].oracle);
                CHECK(c.trouble_with(counting(mpi), how, any_kernel(flash{}), save) == "");
                CHECK(count_trouble_with<float>(mpi, how, any_kernel(flash{}), {shape, layout, s}, save, with_dlse) ==
                      "");
            }
}
