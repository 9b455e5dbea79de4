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

#if defined(__linux__)
TEST_CASE("cores that were taken from a thread are none of its own") {
    int cores = 0, threads = 0;
    std::thread([&] {
        cpu_set_t allowed;
        REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
        int last = CPU_SETSIZE - 1;
        while (!CPU_ISSET(static_cast<std::size_t>(last), &allowed)) --last;
        CPU_ZERO(&allowed);
        CPU_SET(static_cast<std::size_t>(last), &allowed);
        REQUIRE(sched_setaffinity(0, sizeof allowed, &allowed) == 0);
        cores = cores_here(), threads = threads_per_rank(1);
    }).join();
    CHECK(cores == 1);
    CHECK(threads == 1);
}
#endif

TEST_CASE("ranks share the cores, and never more than there are") {
    const int cores = cores_here();
    CHECK(cores >= 1);
    CHECK(threads_per_rank(1) == cores);
    for (int ranks = 1; ranks <= 2 * cores; ++ranks) {
        CHECK(threads_per_rank(ranks) >= 1);
        CHECK((threads_per_rank(ranks) == 1 || ranks * threads_per_rank(ranks) <= cores));
    }
    CHECK_THROWS_WITH(threads_per_rank(0), "threads for 0 ranks: there must be 1 or more");
}
