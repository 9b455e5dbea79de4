#include <support/catch.hpp>

#include <seqpar/core/cores.hpp>

#include <cstddef>
#include <thread>
#include <vector>

using namespace seqpar;

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

TEST_CASE("ranks that are bound to cores use their own, and share those that others may use too") {
    const auto cores = [](std::size_t first, std::size_t last) {
        core_set some;
        for (std::size_t core = first; core < last; ++core) some.set(core);
        return some;
    };
    const auto threads = [](std::vector<core_set> ranks) { return threads_per_rank(ranks); };
    CHECK(threads({cores(0, 64)}) == 64);
    CHECK(threads({cores(0, 8), cores(8, 16), cores(16, 24), cores(24, 32)}) == 8); // each has its own
    CHECK(threads({cores(0, 64), cores(0, 64), cores(0, 64)}) == 21);               // of all
    CHECK(threads({cores(0, 9), cores(0, 9), cores(0, 9)}) == 3);
    CHECK(threads({cores(0, 8), cores(0, 8), cores(8, 16), cores(8, 16)}) == 4); // two a socket
    CHECK(threads({cores(0, 8), cores(8, 12)}) == 4);                            // the same for all
    CHECK(threads({cores(0, 4), cores(3, 7)}) == 3);
    CHECK(threads({cores(1016, 1024), cores(0, 8)}) == 8);
    CHECK(threads({cores(0, 2), cores(0, 2), cores(0, 2)}) == 1); // more ranks than cores
    CHECK_THROWS_WITH(threads({}), "threads for 0 ranks: there must be 1 or more");
}
