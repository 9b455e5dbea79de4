/// A witness of all that ranks exchange: silent where all is well, precise where something is not.
#include "adversary_case.hpp"

#include <support/catch.hpp>
#include <support/comm_contract.hpp>

#include <seqpar/comm/checking.hpp>
#include <seqpar/comm/shuffled.hpp>
#include <seqpar/comm/threads.hpp>

#include <atomic>
#include <chrono>
#include <thread>

using namespace seqpar;
using namespace seqpar::testing;

using witnessed = checking<thread_communicator>;
using witnessed_late = checking<shuffled<thread_communicator>>;

namespace {

/// What a run throws, and what its witness has left over.
struct told {
    std::string thrown, left;
};

template <class F>
told run_seen(int ranks, const F& f, std::chrono::milliseconds patience = std::chrono::minutes(1)) {
    const auto sees = std::make_shared<witness>(ranks, patience);
    told t;
    t.thrown = contract::text_thrown_by(
        [&] { threads::run(ranks, [&](thread_communicator world) { f(witnessed(world, sees)); }); });
    t.left = contract::text_thrown_by([&] { sees->close(); });
    return t;
}

struct room {
    std::array<std::byte, 64> out{}, in{};
    [[nodiscard]] outgoing sent(std::size_t bytes) const { return {out.data(), bytes}; }
    [[nodiscard]] incoming got(std::size_t bytes) { return {in.data(), bytes}; }
};

} // namespace

TEST_CASE("checking fulfils the contract and finds nothing") {
    const int ranks = GENERATE(1, 2, 3, 4, 7);
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " on " << ranks);
        const told t = run_seen(ranks, check);
        CHECK(t.thrown.empty());
        // Which withdraws a message on purpose.
        if (std::string(name) == "withdrawal")
            CHECK(has_in_order(t.left, {"rank 0: given up without a wait: 64 bytes from rank"}));
        else
            CHECK(t.left.empty());
    });
}

TEST_CASE("no strategy does anything wrong") {
    for (const int ranks : {1, 2, 3, 4, 5})
        each_work<witnessed>(ranks, [&](const std::string& name, const auto& work) {
            INFO(name << " on " << ranks);
            const told t = run_seen(ranks, [&](const witnessed& world) { work(world, nullptr); });
            CHECK(t.thrown.empty());
            CHECK(t.left.empty());
        });
}

TEST_CASE("no strategy does anything wrong whatever the order of messages", "[slow]") {
    for (const int ranks : {2, 3, 4, 5, 6})
        for (std::uint64_t seed = 1; seed <= 10; ++seed)
            each_work<witnessed_late>(ranks, [&](const std::string& name, const auto& work) {
                INFO(name << " on " << ranks << ", seed " << seed);
                const auto sees = std::make_shared<witness>(ranks);
                CHECK_NOTHROW(threads::run(ranks, [&](thread_communicator world) {
                    work(witnessed_late(shuffled<thread_communicator>(world, seed), sees), nullptr);
                }));
                CHECK_NOTHROW(sees->close());
            });
}

TEST_CASE("a deadlock says what each rank waits for") {
    const told circle = run_seen(3, [](witnessed c) {
        room r;
        const detail::operation_scope named("a circle", 7);
        c.exchange({}, 0, r.got(8 + static_cast<std::size_t>(c.rank())), (c.rank() + 1) % 3).wait();
    });
    INFO(circle.thrown);
    CHECK(has_in_order(circle.thrown, {"deadlock: rank 0 waits for 8 bytes from rank 1 (in a circle 7)",
                                       "rank 1 waits for 9 bytes from rank 2 (in a circle 7)",
                                       "rank 2 waits for 10 bytes from rank 0"}));

    const told apart = run_seen(2, [](witnessed c) { // one in a collective that the other does not call
        attention attend{c, ring{}};
        const auto q = normal<float>({1, 2, 1, 4}, 1);
        static_cast<void>(attend.forward(q, q, q));
        if (c.rank() == 0)
            static_cast<void>(attend.forward(q, q, q));
        else
            collective::barrier(c);
    });
    INFO(apart.thrown);
    CHECK(has_in_order(apart.thrown,
                       {"deadlock: rank 0 waits for ", " bytes from rank 1 (in ring forward, preflight, roll_call)",
                        "rank 1 waits for 1 bytes ", "rank 0 (in barrier)"}));

    const told halves = run_seen(4, [](witnessed c) { // ranks are told as the first group knows them
        room r;
        witnessed half = c.split(c.rank() % 2, -c.rank());
        if (c.rank() % 2 == 1) half.exchange({}, 0, r.got(5), 1 - half.rank()).wait();
    });
    INFO(halves.thrown);
    CHECK((has_in_order(halves.thrown, {"rank 1 waits for 5 bytes from rank 3"}) &&
           has_in_order(halves.thrown, {"rank 3 waits for 5 bytes from rank 1"})));
}

TEST_CASE("a wait for a rank that has left is told while others still work") {
    std::atomic<bool> works = false, over = false;
    const told t = run_seen(3, [&](witnessed c) {
        room r;
        collective::barrier(c);
        const int rank = c.rank();
        if (rank == 0) {
            while (!works) std::this_thread::yield(); // rank 2 has nothing left to wait for
            try {
                c.exchange({}, 0, r.got(24), 1).wait();
            } catch (...) {
                over = true;
                throw;
            }
        }
        if (rank == 1) static_cast<void>(witnessed(std::move(c))); // and has no other
        if (rank == 2) works = true;
        while (rank != 0 && !over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    INFO(t.thrown);
    CHECK(has_in_order(t.thrown,
                       {"rank 0 waits for 24 bytes from rank 1", "rank 1 has left", "rank 2 waits for nothing"}));
}

TEST_CASE("patience ends a wait for a rank that does something else") {
    std::atomic<bool> came = false, over = false;
    const told t = run_seen(
        2,
        [&](witnessed c) {
            room r;
            if (c.rank() == 0) {
                while (!came) std::this_thread::yield();
                try {
                    c.exchange(r.sent(24), 1, {}, 1).wait();
                } catch (...) {
                    over = true;
                    throw;
                }
            }
            came = true;
            while (c.rank() == 1 && !over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        },
        std::chrono::milliseconds(100));
    INFO(t.thrown);
    CHECK(has_in_order(t.thrown, {"no end of a wait within 0.1 s", "rank 0 waits for 24 bytes to rank 1",
                                  "rank 1 waits for nothing"}));
}

TEST_CASE("sizes that differ are told with both operations") {
    const told t = run_seen(2, [](witnessed c) {
        room r;
        const detail::operation_scope named(c.rank() == 0 ? "sending" : "receiving");
        if (c.rank() == 0)
            c.exchange(r.sent(24), 1, {}, 1).wait();
        else
            c.exchange({}, 0, r.got(16), 0).wait();
    });
    INFO(t.thrown);
    CHECK(has_in_order(t.thrown, {"rank 0 sends 24 bytes, rank 1 expects 16", "24 bytes to rank 1 (in sending)",
                                  "16 bytes from rank 0 (in receiving)"}));
}

TEST_CASE("a peer that is not there") {
    const told t = run_seen(2, [](witnessed c) {
        room r;
        if (c.rank() == 1) c.exchange(r.sent(3), 2, {}, 0).wait();
    });
    CHECK(has_in_order(t.thrown, {"rank 1", "cannot send to rank 2 (3 bytes); allowed: 0 to 1"}));
}

TEST_CASE("buffers in use twice, and bytes that change while they are sent") {
    const bool receives_both = GENERATE(true, false);
    const told twice = run_seen(2, [&](witnessed c) {
        room r;
        const int other = 1 - c.rank();
        auto first = c.exchange({}, other, r.got(10), other);
        auto second = receives_both ? c.exchange({}, other, {r.in.data() + 9, 10}, other)
                                    : c.exchange({r.in.data() + 9, 10}, other, {}, other);
        first.wait(), second.wait();
    });
    INFO(twice.thrown);
    CHECK(has_in_order(twice.thrown, {"uses a buffer twice at once: 10 bytes ", "and 10 bytes from rank "}));

    const told changed = run_seen(2, [](witnessed c) {
        room r;
        const int other = 1 - c.rank();
        auto sending = c.exchange(r.sent(10), other, {}, other);
        if (c.rank() == 1) r.out[9] = std::byte{1};
        c.exchange({}, other, r.got(10), other).wait();
        sending.wait();
    });
    INFO(changed.thrown);
    CHECK(has_in_order(changed.thrown, {"rank 1 has changed bytes while they were sent: 10 bytes to rank 0"}));
}

TEST_CASE("what is left over at the end is told") {
    std::atomic<bool> leaked = false; // before rank 1 expects the barrier's byte, which it would be taken for
    const told t = run_seen(2, [&](witnessed c) {
        room r;
        const int other = 1 - c.rank();
        auto kept = c.exchange(r.sent(12), other, r.got(12), other);
        if (c.rank() == 0) kept.wait();
        if (c.rank() == 1) {
            while (!kept.test()) std::this_thread::yield();
        }
        collective::barrier(c);
        if (c.rank() == 0) {
            const detail::operation_scope named("a leak");
            static_cast<void>(c.exchange(r.sent(7), 1, {}, 1));
            leaked = true;
            leaked.notify_one();
        }
        leaked.wait(false);
        collective::barrier(c);
    });
    CHECK(t.thrown == "");
    INFO(t.left);
    CHECK(has_in_order(t.left, {"given up without a wait: ", "bytes"}));
    CHECK(has_in_order(t.left, {"rank 0: given up without a wait: 7 bytes to rank 1 (in a leak)"}));
    CHECK(has_in_order(t.left, {"rank 1: given up without a wait: 12 bytes"}));
}

TEST_CASE("a failure of a rank is told as it is") {
    struct own_error : std::runtime_error {
        using std::runtime_error::runtime_error;
    };
    for (int again = 0; again < 50; ++again) {
        const told t = run_seen(3, [](witnessed c) {
            room r;
            if (c.rank() == 1) throw own_error("what it was");
            c.exchange({}, 0, r.got(24), 1).wait();
        });
        REQUIRE(has_in_order(t.thrown, {"rank 1: what it was"}));
    }
}

TEST_CASE("a witness is for its ranks, and a rank keeps what it has") {
    const auto for_three = std::make_shared<witness>(3);
    CHECK(contract::contains(contract::text_thrown_by<refusal>([&] {
                                 threads::run(2, [&](thread_communicator c) { const witnessed made(c, for_three); });
                             }),
                             "a group of 2 ranks and a witness for 3"));
    const auto sees = std::make_shared<witness>(1);
    CHECK(contract::contains(contract::text_thrown_by<refusal>([&] {
                                 threads::run(1, [&](thread_communicator c) {
                                     { const witnessed first(c, sees); }
                                     const witnessed second(c, sees);
                                 });
                             }),
                             "gives up its last communicator"));
    std::weak_ptr<witness> gone;
    {
        const auto kept = std::make_shared<witness>(2);
        gone = kept;
        threads::run(2, [&](thread_communicator c) { witnessed(c, kept).split(0, 0); });
    }
    CHECK(gone.expired());
}
