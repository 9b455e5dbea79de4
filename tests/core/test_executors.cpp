#include "executor_contract.hpp"

using namespace seqpar;
using namespace seqpar::testing;

TEST_CASE("every executor runs each item once, numbers its workers, and rethrows") {
    keeps_the_contract(inline_executor{});
    for (const int workers : {1, 2, 3, 7}) keeps_the_contract(thread_pool(workers));
    const thread_pool pool(3);
    keeps_the_contract(executor_ref(pool));
}

TEST_CASE("an executor of no workers is refused") {
    CHECK_THROWS_WITH(thread_pool(0), "a thread pool of 0 workers: allowed are 1 to 1024");
}
