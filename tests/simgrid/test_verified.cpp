/// Real data on simulated ranks, 64 and more in one process: strategies forward and backward against serial and the definition,
/// with derived bounds, and what they send and hold against the formulas. Each strategy and some nestings; as [slow] all.
#include <support/all_strategies.hpp>
#include <support/backward_counts.hpp>
#include <support/catch.hpp>
#include <support/gradient_case.hpp>
#include <support/scheme_case.hpp>
#include <support/simulated_cluster.hpp>

#include <seqpar/comm/simgrid.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>

#include <string>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

using counting = metered<simgrid_communicator>;
using any = any_strategy<counting, reference>;

/// What the ranks say of a scheme on simulated ranks, one after the other.
template <class F>
[[nodiscard]] std::string said_by_simulated_ranks(int ranks, const F& f) {
    std::string all;
    simulated::run(fat_tree_of_nodes(), ranks, [&](simgrid_communicator world) { all += f(world); });
    return all;
}

/// Grouped heads, more ranks than heads; 64 ranks hold 2 or 3 rows each.
constexpr attention_shape few_rows{1, 150, 150, 8, 2, 8, 8};

[[nodiscard]] std::vector<any> each_strategy() {
    return {ring{},
            ring{ring_route::bidirectional()},
            ring{ring_route::double_ring(8), ring_passing::keys},
            ring{ring_route::one_way(), ring_passing::queries},
            all_gather{},
            all_gather{2, exchange_pattern::doubling},
            tree{},
            grid{},
            ulysses<any>{8, ring{}},
            ulysses<any>{2, ulysses<any>{4, grid{4, 2}}}};
}

/// Against serial, as seqpar::verify has it, and the counts of forward.
void verify_all(const std::vector<any>& strategies, int ranks, const attention_shape& shape) {
    const std::vector<any_layout> layouts{zigzag{}, striped{}, contiguous{}};
    std::size_t next = 0;
    for (const any& how : strategies) {
        const scheme_case c{shape, layouts[next++ % layouts.size()], causal{}};
        CHECK(said_by_simulated_ranks(ranks, [&](simgrid_communicator world) {
                  return trouble_with<float>(world, how, reference{}, c);
              }) == "");
    }
}

/// Results and gradients against the definition, and of each n-th strategy the counts of both passes.
void differentiate_all(const std::vector<any>& strategies, int ranks, const attention_shape& shape,
                       std::size_t count_every = 1) {
    const gradient_case<float> input(shape, zigzag{}, causal{}, true, ranks);
    std::size_t next = 0;
    for (const any& how : strategies) {
        const bool counts = next % count_every == 0;
        const saving save = next++ % 2 == 0 ? saving::keep : saving::resend;
        CHECK(said_by_simulated_ranks(ranks, [&](simgrid_communicator world) {
                  std::string all = input.trouble_with(counting(world), how, reference{}, save);
                  if (counts)
                      all += count_trouble_with<float>(world, how, reference{}, {shape, input.layout, input.score},
                                                       save, input.with_dlse);
                  return all;
              }) == "");
    }
}

} // namespace

TEST_CASE("64 simulated ranks compute what serial computes") {
    verify_all({ulysses<>{}, ring{}, ulysses<any>{4, tree{}}}, 64, few_rows);
}
TEST_CASE("64 simulated ranks compute gradients, by each strategy") {
    differentiate_all(each_strategy(), 64, few_rows);
}
TEST_CASE("64 simulated ranks, every strategy", "[slow]") {
    verify_all(all_strategies<counting, reference>(64), 64, few_rows);
    differentiate_all(all_strategies<counting, reference>(64), 64, few_rows, 3);
}
TEST_CASE("256 simulated ranks", "[slow]") {
    const std::vector<any> some{ring{}, ulysses<any>{8, ring{}}, grid{}, all_gather{0, exchange_pattern::doubling}};
    const attention_shape shape{1, 300, 300, 8, 2, 4, 4};
    verify_all(some, 256, shape);
    differentiate_all(some, 256, shape);
}
