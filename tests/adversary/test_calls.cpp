/// Calls that do not belong together, and ranks that do not call: refused on every rank that does.
#include "adversary_case.hpp"

#include <support/catch.hpp>
#include <support/comm_contract.hpp>
#include <support/mismatched_calls.hpp>

#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/comm/traced.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

using namespace seqpar;
using namespace seqpar::testing;
using std::chrono::milliseconds;

TEST_CASE("calls that differ between ranks are refused on all, and the next call is as if nothing had been") {
    for (const auto& what : mismatches<thread_communicator>())
        for (const int ranks : {2, 3, 4})
            for (int odd = 0; odd < ranks; ++odd) {
                std::string trouble;
                std::mutex mutex;
                threads::run(ranks, [&](thread_communicator world) {
                    const std::string mine = trouble_with_refusal(world, what, odd);
                    const std::lock_guard lock(mutex);
                    if (trouble.empty()) trouble = mine;
                });
                INFO("rank " << odd << " of " << ranks);
                CHECK(trouble == "");
            }
}

namespace {

/// What each rank throws where `missing` do not call until the others have given up.
template <class Call>
std::vector<std::string> told_without(int ranks, const std::vector<int>& missing, const Call& call) {
    std::vector<std::string> told(static_cast<std::size_t>(ranks));
    std::atomic<int> given_up = 0;
    const int callers = ranks - static_cast<int>(missing.size());
    threads::run(ranks, [&](thread_communicator world) {
        const int rank = world.rank();
        if (std::find(missing.begin(), missing.end(), rank) != missing.end()) {
            while (given_up < callers) std::this_thread::sleep_for(milliseconds(1));
            return;
        }
        told[static_cast<std::size_t>(rank)] = contract::text_thrown_by<communication_error>([&] { call(world); });
        ++given_up;
        while (given_up < callers) std::this_thread::sleep_for(milliseconds(1));
    });
    return told;
}

} // namespace

TEST_CASE("ranks that do not call are named by all others after a stated time") {
    struct row {
        int ranks;
        std::vector<int> missing;
        const char* said;
    };
    const std::vector<row> rows{{2, {1}, "rank 1 has not called within 0.3 s"},
                                {3, {0}, "rank 0 has not called within 0.3 s"},
                                {4, {3}, "rank 3 has not called within 0.3 s"},
                                {5, {1, 3}, "ranks 1, 3 have not called within 0.3 s"},
                                {5, {0, 1, 2, 4}, "ranks 0, 1, 2, 4 have not called within 0.3 s"}};
    const auto q = normal<float>({1, 2, 1, 4}, 1);
    for (const row& r : rows) {
        const auto told = told_without(r.ranks, r.missing, [&](auto world) {
            attention attend{world, ring{}, options{.patience = milliseconds(300)}};
        });
        for (int rank = 0; rank < r.ranks; ++rank) {
            if (std::find(r.missing.begin(), r.missing.end(), rank) != r.missing.end()) continue;
            INFO("rank " << rank << " of " << r.ranks << ": " << told[static_cast<std::size_t>(rank)]);
            CHECK(has_in_order(told[static_cast<std::size_t>(rank)], {r.said, "(in attention, preflight, roll_call)"}));
        }
    }
}

TEST_CASE("forward, backward and a step of decoding have patience, through wrappers too") {
    const auto q = normal<float>({1, 2, 2, 4}, 1);
    const options how{.patience = milliseconds(200)};
    enum class call { forward, backward, step };
    for (const call which : {call::forward, call::backward, call::step}) {
        std::array<std::string, 3> told;
        std::atomic<int> given_up = 0;
        threads::run(3, [&](thread_communicator world) {
            traced c{metered(world)};
            attention attend{c, ring{}, how};
            decode step{c, how};
            kv_cache<float> cache(world, {.batch = 1, .kv_heads = 2, .dim = 4, .dim_v = 4});
            cache.append(q, q);
            const auto r = attend.forward(q, q, q);
            if (world.rank() != 1) {
                told[static_cast<std::size_t>(world.rank())] = contract::text_thrown_by<communication_error>([&] {
                    if (which == call::forward) static_cast<void>(attend.forward(q, q, q));
                    if (which == call::backward) static_cast<void>(attend.backward(q, r));
                    if (which == call::step) static_cast<void>(step.step(q, cache));
                });
                ++given_up;
            }
            while (given_up < 2) std::this_thread::sleep_for(milliseconds(1));
        });
        const std::string name = which == call::forward    ? "ring forward"
                                 : which == call::backward ? "ring backward"
                                                           : "decode step";
        for (const int rank : {0, 2})
            CHECK(told[static_cast<std::size_t>(rank)] ==
                  "rank 1 has not called within 0.2 s (in " + name + ", preflight, roll_call)");
    }
}

TEST_CASE("a rank that comes late, but not too late, is waited for") {
    for (const milliseconds patience : {milliseconds(60'000), milliseconds(0), milliseconds::max()})
        threads::run(3, [&](thread_communicator world) {
            const auto q = normal<float>({1, 2, 1, 4}, 1);
            attention attend{world, ring{}, options{.patience = patience}};
            if (world.rank() == 1) std::this_thread::sleep_for(milliseconds(50));
            static_cast<void>(attend.forward(q, q, q));
        });
    SUCCEED();
}

TEST_CASE("a rank that has ended is told of by whoever waits for it") {
    const bool sends = GENERATE(true, false);
    const bool ends_first = GENERATE(true, false);
    const std::string text = contract::text_thrown_by<rank_error>([&] {
        threads::run(3, [&](thread_communicator c) {
            std::array<std::byte, 40> b{};
            thread_communicator part = c.split(0, -c.rank()); // ranks the other way round
            if (c.rank() == 2) {
                if (!ends_first) std::this_thread::sleep_for(milliseconds(20));
                return;
            }
            if (c.rank() == 1) return;
            if (ends_first) std::this_thread::sleep_for(milliseconds(20));
            const detail::operation_scope named("some operation");
            if (sends)
                part.exchange({b.data(), 40}, 0, {}, 0).wait();
            else
                part.exchange({}, 0, {b.data(), 40}, 0).wait();
        });
    });
    CHECK(text == std::string("rank 0: rank 2 has ended while rank 0 waits for a message of 40 bytes ") +
                      (sends ? "to it" : "from it") + " (in some operation)");
}

TEST_CASE("what a rank has sent before it ended arrives") {
    for (int again = 0; again < 200; ++again)
        threads::run(2, [](thread_communicator c) {
            std::byte b{7};
            if (c.rank() == 1) {
                c.exchange({&b, 1}, 0, {}, 0).wait();
                return;
            }
            b = std::byte{0};
            c.exchange({}, 1, {&b, 1}, 1).wait();
            if (b != std::byte{7}) throw error("another message");
        });
    SUCCEED();
}

namespace {

struct own_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct bad_kernel : reference {
    template <real_element T, score S>
    void forward(const context&, const block<const T>&, std::span<const key_block<T>>, const S&,
                 partial<accumulator_t<T>>&) const {
        throw own_error("no idea");
    }
};

} // namespace

TEST_CASE("the text of an exception names the operation that it left, and no other") {
    const auto q = normal<float>({1, 2, 1, 4}, 1);
    const auto told = [&](const auto& f) { return contract::text_thrown_by<rank_error>([&] { threads::run(1, f); }); };
    CHECK(told([&](thread_communicator c) {
              attention attend{c, ring{}, bad_kernel{}};
              static_cast<void>(attend.forward(q, q, q));
          }) == "rank 0: no idea (in ring forward, step 0)");
    // One that was caught is not what fails later, outside of any operation.
    CHECK(told([&](thread_communicator c) {
              attention attend{c, ring{}, bad_kernel{}};
              CHECK_THROWS_AS(attend.forward(q, q, q), own_error);
              throw own_error("my own");
          }) == "rank 0: my own");
    CHECK(told([&](thread_communicator) { throw own_error("before all"); }) == "rank 0: before all");
}
