/// Apart from the other executors, which are tested where there is no OpenMP too.
#include "executor_contract.hpp"

#include <seqpar/core/openmp_executor.hpp>

using namespace seqpar;
using namespace seqpar::testing;

TEST_CASE("OpenMP's threads keep the contract of executors") {
    for (const int workers : {1, 2, 3, 7}) keeps_the_contract(openmp_executor{workers});
    keeps_the_contract(openmp_executor{});
}

TEST_CASE("an OpenMP executor of fewer than no threads is refused") {
    CHECK_THROWS_WITH(openmp_executor{-2}.workers(),
                      "an openmp_executor of -2 threads: allowed are 1 or more, or 0 for OpenMP's own choice");
}
