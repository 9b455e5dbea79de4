#include <support/catch.hpp>

#include <seqpar/core/executor.hpp>
#include <seqpar/core/openmp_executor.hpp>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace seqpar;

namespace {

/// What the concept asks of every executor.
template <executor E>
void keeps_the_contract(const E& e) {
    for (const index_t count : {index_t{0}, index_t{1}, index_t{2}, index_t{1000}}) {
        std::vector<std::atomic<int>> done(static_cast<std::size_t>(count));
        std::vector<std::atomic<int>> inside(static_cast<std::size_t>(e.workers()));
        std::atomic<int> strangers{0}, crowds{0}, impostors{0};
        const std::thread::id caller = std::this_thread::get_id();
        e.run(count, [&](index_t item, int worker) {
            if (worker < 0 || worker >= e.workers()) {
                ++strangers;
                return;
            }
            auto& here = inside[static_cast<std::size_t>(worker)];
            crowds += here++ != 0;
            impostors += worker == 0 && std::this_thread::get_id() != caller;
            ++done[static_cast<std::size_t>(item)];
            --here;
        });
        int wrong = 0;
        for (const auto& times : done) wrong += times != 1;
        CHECK(wrong == 0);
        CHECK(strangers == 0); // workers are numbered
        CHECK(crowds == 0);    // the items of a worker run one after the other
        CHECK(impostors == 0); // the caller is worker 0
    }
    CHECK_THROWS_WITH(e.run(50,
                            [](index_t item, int) {
                                if (item == 17) throw std::runtime_error("item 17");
                            }),
                      "item 17");
    std::atomic<index_t> sum{0};
    e.run(100, [&](index_t item, int) { sum += item; }); // and works on after a failure
    CHECK(sum == 4950);
}

} // namespace

TEST_CASE("every executor runs each item once, numbers its workers, and rethrows") {
    keeps_the_contract(inline_executor{});
    for (const int workers : {1, 2, 3, 7}) {
        keeps_the_contract(thread_pool(workers));
        keeps_the_contract(openmp_executor{workers});
    }
    keeps_the_contract(openmp_executor{});
    const thread_pool pool(3);
    keeps_the_contract(executor_ref(pool));
}

TEST_CASE("an executor of no workers is refused") {
    CHECK_THROWS_WITH(thread_pool(0), "a thread pool of 0 workers: allowed are 1 to 1024");
    CHECK_THROWS_WITH(openmp_executor{-2}.workers(),
                      "an openmp_executor of -2 threads: allowed are 1 or more, or 0 for OpenMP's own choice");
}

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
