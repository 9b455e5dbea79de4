/// @file
/// What the concept asks of every executor.
#pragma once

#include <support/catch.hpp>

#include <seqpar/core/executor.hpp>

#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <thread>
#include <vector>

namespace seqpar::testing {

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

} // namespace seqpar::testing
