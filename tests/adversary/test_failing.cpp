/// Ranks that fail, or leave, at any operation: the others end, nothing is held, and one exception says who and in what.
#include "adversary_case.hpp"

#include <support/catch.hpp>
#include <support/comm_contract.hpp>

#include <seqpar/comm/failing.hpp>
#include <seqpar/comm/threads.hpp>

#include <atomic>
#include <new>

using namespace seqpar;
using namespace seqpar::testing;

using frail_ranks = failing<thread_communicator>;

namespace {

/// The innermost exception.
enum class origin_of { own, bad_alloc, communication, other };
origin_of innermost(const std::exception& e) {
    try {
        std::rethrow_if_nested(e);
    } catch (const std::bad_alloc&) {
        return origin_of::bad_alloc;
    } catch (const aborted&) {
        return origin_of::other;
    } catch (const communication_error&) {
        return origin_of::communication;
    } catch (...) {
        return origin_of::other;
    }
    return origin_of::own;
}

struct outcome {
    bool reached = false; // the fault took place
    int said_by = -1;     // the rank that the exception names; -1: nothing was thrown
    std::string text;
    origin_of cause = origin_of::own;
    std::size_t held = 0; // memory that ranks still hold
    int ended = 0;        // ranks
};

/// Runs with a fault of one rank.
template <class Work>
outcome run_with(int ranks, int failing_rank, fault_kind kind, std::int64_t at, const Work& work) {
    outcome result;
    std::vector<counted_memory> memory(static_cast<std::size_t>(ranks));
    std::atomic<int> ended = 0;
    const auto bad = std::make_shared<fault>(kind, at);
    struct at_end {
        std::atomic<int>& count;
        ~at_end() { ++count; }
    };
    try {
        threads::run(ranks, [&](thread_communicator world) {
            const at_end counted{ended};
            const auto how = world.rank() == failing_rank ? bad : std::make_shared<fault>();
            unless_vanished([&] { work(frail_ranks(world, how), &memory[static_cast<std::size_t>(world.rank())]); });
        });
    } catch (const rank_error& e) {
        result.said_by = e.rank();
        result.text = e.what();
        result.cause = innermost(e);
    }
    result.reached = bad->happened();
    for (const counted_memory& each : memory) result.held += each.held();
    result.ended = ended;
    return result;
}

/// Every step-th operation of each rank, until none is left. Returns how often one failed.
int sweep(int ranks, fault_kind kind, std::int64_t step) {
    int failures = 0;
    each_work<frail_ranks>(ranks, [&](const std::string& name, const auto& work) {
        for (int failing_rank = 0; failing_rank < ranks; ++failing_rank) {
            int thrown = 0, reached = 0;
            for (std::int64_t at = 1 + failing_rank % step;; at += step) {
                const outcome r = run_with(ranks, failing_rank, kind, at, work);
                INFO(name << " on " << ranks << ", operation " << at << " of rank " << failing_rank << ": " << r.text);
                REQUIRE(r.held == 0);
                REQUIRE(r.ended == ranks);
                if (!r.reached) {
                    REQUIRE(r.said_by == -1);
                    break;
                }
                ++reached, ++failures;
                thrown += r.said_by == -1 ? 0 : 1;
                const std::string who = std::to_string(failing_rank);
                // attention: its constructor. What a kv_cache does is no operation of attention.
                const bool named = has_in_order(r.text, {"(in " + name}) || has_in_order(r.text, {"(in attention"}) ||
                                   has_in_order(r.text, {"(in decode"});
                if (kind == fault_kind::vanish) {
                    // Nobody may have waited for it any more.
                    if (r.said_by == -1) continue;
                    REQUIRE(r.said_by != failing_rank);
                    REQUIRE(has_in_order(r.text, {"rank ", "rank " + who + " has ended while rank ",
                                                  " waits for a message of ", " bytes "}));
                    REQUIRE(named);
                } else {
                    REQUIRE(r.said_by == failing_rank);
                    REQUIRE(named);
                    if (kind == fault_kind::exchange) {
                        REQUIRE(r.cause == origin_of::communication);
                        REQUIRE(has_in_order(r.text,
                                             {"rank " + who + ": operation " + std::to_string(at) + " of rank " + who,
                                              "is made to fail (in "}));
                    } else {
                        REQUIRE(r.cause == origin_of::bad_alloc);
                    }
                }
            }
            if (ranks > 1 && step == 1) CHECK(thrown > reached / 2);
        }
    });
    return failures;
}

} // namespace

TEST_CASE("without a fault failing fulfils the contract, and counts") {
    const int ranks = GENERATE(1, 2, 3, 4);
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " on " << ranks);
        REQUIRE_NOTHROW(
            threads::run(ranks, [&](thread_communicator c) { check(frail_ranks(c, std::make_shared<fault>())); }));
    });
    threads::run(2, [](thread_communicator world) {
        const auto count = std::make_shared<fault>();
        frail_ranks c(world, count);
        frail_ranks part = c.split(0, c.rank());
        std::byte out{1}, in{2};
        part.exchange({&out, 1}, 1 - c.rank(), {&in, 1}, 1 - c.rank()).wait();
        c.exchange({}, 0, {}, 0).wait(); // no message
        if (count->operations() != 3) throw error(detail::concat("counted ", count->operations(), " and not 3"));
    });
}

TEST_CASE("a rank fails at any operation") {
    for (const int ranks : {1, 2, 3, 4}) CHECK(sweep(ranks, fault_kind::exchange, ranks < 3 ? 1 : 7) > 10);
}

TEST_CASE("memory fails at any operation") {
    for (const int ranks : {2, 3, 4}) CHECK(sweep(ranks, fault_kind::memory, ranks < 3 ? 2 : 7) > 20);
}

TEST_CASE("a rank leaves without a word at any operation") {
    for (const int ranks : {2, 3, 4}) CHECK(sweep(ranks, fault_kind::vanish, ranks < 3 ? 1 : 7) > 20);
}

TEST_CASE("every rank fails at every operation of every strategy in every way", "[slow]") {
    for (const fault_kind kind : {fault_kind::exchange, fault_kind::memory, fault_kind::vanish})
        for (const int ranks : {1, 2, 3, 4, 5}) sweep(ranks, kind, 1);
}
