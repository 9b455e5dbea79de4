#include "support/catch.hpp"
#include "support/comm_contract.hpp"

#include <seqpar/comm/threads.hpp>
#include <seqpar/core/error.hpp>

#include <atomic>
#include <chrono>

using contract::contains;
using seqpar::thread_communicator;

TEST_CASE("thread_communicator fulfils the contract") {
    const int ranks = GENERATE(1, 2, 3, 4, 7);
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " on " << ranks);
        REQUIRE_NOTHROW(seqpar::threads::run(ranks, check));
    });
}

TEST_CASE("thread_communicator fulfils the contract on many ranks") {
    REQUIRE_NOTHROW(seqpar::threads::run(64, [](auto c) { contract::check_exchange(c); }));
    REQUIRE_NOTHROW(seqpar::threads::run(64, [](auto c) { contract::check_split(c); }));
    REQUIRE_NOTHROW(seqpar::threads::run(64, [](auto c) { contract::check_all_to_all(c); }));
    REQUIRE_NOTHROW(seqpar::threads::run(64, [](auto c) { contract::check_reduce_scatter(c); }));
}

TEST_CASE("threads::run takes up to 1024 ranks") {
    std::atomic<int> sum = 0;
    seqpar::threads::run(seqpar::threads::max_ranks, [&](thread_communicator c) {
        int passed = c.rank(), got = -1;
        const int to = (c.rank() + 1) % c.size(), from = (c.rank() + c.size() - 1) % c.size();
        for (int hop = 0; hop < 3; ++hop) {
            c.exchange({reinterpret_cast<const std::byte*>(&passed), sizeof passed}, to,
                       {reinterpret_cast<std::byte*>(&got), sizeof got}, from)
                .wait();
            passed = got;
        }
        thread_communicator pair = c.split(c.rank() / 2, 0);
        seqpar::collective::barrier(pair);
        sum += got == (c.rank() + c.size() - 3) % c.size() && pair.size() == 2 ? 1 : 0;
    });
    REQUIRE(sum == 1024);
}

TEST_CASE("threads::run refuses a number of ranks that it cannot have") {
    for (const int ranks : {-1, 0, 1025}) {
        const std::string text =
            contract::text_thrown_by<seqpar::refusal>([&] { seqpar::threads::run(ranks, [](thread_communicator) {}); });
        INFO(text);
        REQUIRE(contains(text, std::to_string(ranks).c_str()));
        REQUIRE(contains(text, "1 to 1024"));
        REQUIRE(contains(text, ranks < 1 ? "nearest: 1" : "nearest: 1024"));
    }
}

TEST_CASE("a barrier lets nobody out before everybody is in") {
    const int ranks = GENERATE(2, 3, 4, 7);
    std::atomic<int> in = 0;
    std::atomic<int> early = 0;
    seqpar::threads::run(ranks, [&](thread_communicator c) {
        for (int n = 1; n <= 50; ++n) {
            if (c.rank() == n % ranks) {
                std::this_thread::sleep_for(std::chrono::microseconds(200));
            }
            ++in;
            seqpar::collective::barrier(c);
            if (in < n * ranks) {
                ++early;
            }
        }
    });
    REQUIRE(early == 0);
}

TEST_CASE("ghosts of threads take their place and move nothing") {
    seqpar::threads::run(2, [](thread_communicator c) {
        contract::findings found = contract::findings_of(c, "ghosts");
        const int other = 1 - c.rank();
        const contract::bytes real = contract::letter(c.rank(), other, 0, 100);
        contract::bytes got = contract::blank(100);
        c.exchange({nullptr, 100}, other, contract::in_to(got), other).wait();
        found.expect(got == contract::blank(100), "a ghost has written");
        c.exchange(contract::out_of(real), other, contract::in_to(got), other).wait();
        found.expect(got == contract::letter(other, c.rank(), 0, 100), "the message after the ghost");
        c.exchange(contract::out_of(real), other, {nullptr, 100}, other).wait();
        found.close();
    });
}

TEST_CASE("sizes that differ are an error on both sides") {
    const bool sender_first = GENERATE(true, false);
    std::string text[2];
    std::atomic<bool> posted = false;
    REQUIRE_THROWS_AS(seqpar::threads::run(2,
                                           [&](thread_communicator c) {
                                               contract::bytes b(40);
                                               const bool first = (c.rank() == 0) == sender_first;
                                               while (!first && !posted) {
                                                   std::this_thread::yield();
                                               }
                                               try {
                                                   seqpar::request_t<thread_communicator> r;
                                                   if (c.rank() == 0) {
                                                       r = c.exchange({b.data(), 24}, 1, {}, 1);
                                                   } else {
                                                       r = c.exchange({}, 0, {b.data(), 16}, 0);
                                                   }
                                                   posted = true;
                                                   r.wait();
                                               } catch (const seqpar::communication_error& e) {
                                                   text[c.rank()] = e.what();
                                                   throw;
                                               }
                                           }),
                      seqpar::rank_error);
    for (const std::string& each : text) {
        REQUIRE(contains(each, "rank 0 sends 24 bytes"));
        REQUIRE(contains(each, "rank 1 expects 16"));
    }
}

TEST_CASE("a rank that is not there") {
    const std::string text = contract::text_thrown_by<seqpar::rank_error>([] {
        seqpar::threads::run(3, [](thread_communicator c) {
            std::byte b{};
            if (c.rank() == 1) {
                c.exchange({&b, 1}, 3, {}, 0);
            }
        });
    });
    REQUIRE(contains(text, "rank 1: "));
    REQUIRE(contains(text, "rank 3"));
    REQUIRE(contains(text, "0 to 2"));
}

namespace {

struct own_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Where the failing rank fails, and what the others wait in.
enum class moment { at_once, in_a_split, with_requests_open, in_a_collective, after_all };

void fail_at(moment when, thread_communicator c, int failing) {
    const int me = c.rank(), size = c.size();
    if (when == moment::at_once && me == failing) {
        throw own_error("at once");
    }
    thread_communicator inner = c.split(me % 2, me);
    thread_communicator innermost = inner.split(0, 0);
    if (when == moment::in_a_split && me == failing) {
        throw own_error("in a split");
    }
    seqpar::collective::barrier(innermost);
    contract::bytes out = contract::letter(me, 0, 0, 100'000), in(100'000);
    {
        auto open = c.exchange(contract::out_of(out), (me + 1) % size, contract::in_to(in), (me + size - 1) % size);
        if (when == moment::with_requests_open && me == failing) {
            throw own_error("with requests open");
        }
        open.wait();
    }
    std::vector<seqpar::incoming> everyone;
    contract::bytes gathered(100'000 * static_cast<std::size_t>(size));
    for (int r = 0; r < size; ++r) {
        everyone.push_back({gathered.data() + 100'000 * static_cast<std::size_t>(r), 100'000});
    }
    if (when == moment::in_a_collective && me == failing) {
        throw own_error("in a collective");
    }
    seqpar::collective::all_gather(c, contract::out_of(out), everyone);
    if (when == moment::after_all && me == failing) {
        throw own_error("after all");
    }
    // For ever, but for the failure.
    std::byte never{};
    c.exchange({}, 0, {&never, 1}, failing).wait();
}

} // namespace

TEST_CASE("a rank that fails releases all others and is named") {
    const int ranks = GENERATE(2, 3, 4, 7);
    const int failing = GENERATE(0, 1);
    const moment when = GENERATE(moment::at_once, moment::in_a_split, moment::with_requests_open,
                                 moment::in_a_collective, moment::after_all);
    const auto begin = std::chrono::steady_clock::now();
    std::atomic<int> released = 0;
    bool nested = false;
    try {
        seqpar::threads::run(ranks, [&](thread_communicator c) {
            try {
                fail_at(when, c, failing);
            } catch (const seqpar::aborted& e) {
                released += contains(e.what(), ("rank " + std::to_string(failing) + " failed: ").c_str()) ? 1 : 0;
                throw;
            }
        });
        FAIL("nothing thrown");
    } catch (const seqpar::rank_error& e) {
        REQUIRE(e.rank() == failing);
        REQUIRE(contains(e.what(), ("rank " + std::to_string(failing) + ": ").c_str()));
        try {
            std::rethrow_if_nested(e);
        } catch (const own_error&) {
            nested = true;
        }
    }
    REQUIRE(nested);
    REQUIRE(released == ranks - 1);
    REQUIRE(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
}

TEST_CASE("a refusal leaves threads::run as it is") {
    REQUIRE_THROWS_AS(seqpar::threads::run(4, [](thread_communicator) { throw seqpar::refusal("no"); }),
                      seqpar::refusal);
    REQUIRE(contract::text_thrown_by([] {
                seqpar::threads::run(4, [](thread_communicator c) {
                    if (c.rank() == 2) {
                        throw seqpar::refusal("no, and why");
                    }
                    seqpar::collective::barrier(c);
                });
            }) == "no, and why");
}

TEST_CASE("what is thrown need not be a std::exception") {
    const std::string text = contract::text_thrown_by<seqpar::rank_error>([] {
        seqpar::threads::run(3, [](thread_communicator c) {
            if (c.rank() == 2) {
                throw 42;
            } // NOLINT
            seqpar::collective::barrier(c);
        });
    });
    REQUIRE(contains(text, "rank 2: "));
}

TEST_CASE("a withdrawn send does not take a later one's place") {
    seqpar::threads::run(2, [](thread_communicator c) {
        contract::findings found = contract::findings_of(c, "withdrawn send");
        const contract::bytes lost = contract::letter(0, 1, 0, 8), kept = contract::letter(0, 1, 1, 8);
        contract::bytes got = contract::blank(8);
        thread_communicator aside = c.split(0, 0);
        if (c.rank() == 0) {
            { auto withdrawn = c.exchange(contract::out_of(lost), 1, {}, 1); }
            auto request = c.exchange(contract::out_of(kept), 1, {}, 1);
            seqpar::collective::barrier(aside);
            request.wait();
        } else {
            seqpar::collective::barrier(aside);
            c.exchange({}, 0, contract::in_to(got), 0).wait();
            found.expect(got == kept, "the message that was kept");
        }
        found.close();
    });
}

TEST_CASE("runs may be nested, and one after the other") {
    std::atomic<int> inner = 0;
    for (int n = 0; n < 20; ++n) {
        seqpar::threads::run(3, [&](thread_communicator) {
            seqpar::threads::run(2, [&](thread_communicator c) {
                seqpar::collective::barrier(c);
                ++inner;
            });
        });
    }
    REQUIRE(inner == 120);
}
