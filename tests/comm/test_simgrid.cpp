#include "support/catch.hpp"
#include "support/comm_contract.hpp"
#include "support/simulated_cluster.hpp"

#include <seqpar/attention.hpp>
#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/simgrid.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/strategy/ring.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

using contract::contains;
using seqpar::simgrid_communicator;
using seqpar::testing::fat_tree_of_nodes;
using seqpar::testing::one_node;
namespace simulated = seqpar::simulated;

TEST_CASE("simgrid_communicator fulfils the contract") {
    const int ranks = GENERATE(1, 2, 3, 4, 7);
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " on " << ranks);
        REQUIRE_NOTHROW(simulated::run(fat_tree_of_nodes(), ranks, check));
    });
}

TEST_CASE("simgrid_communicator fulfils the contract on many ranks") {
    REQUIRE_NOTHROW(simulated::run(fat_tree_of_nodes(), 64, [](auto c) { contract::check_exchange(c); }));
    REQUIRE_NOTHROW(simulated::run(fat_tree_of_nodes(), 64, [](auto c) { contract::check_split(c); }));
    REQUIRE_NOTHROW(simulated::run(fat_tree_of_nodes(), 64, [](auto c) { contract::check_all_to_all(c); }));
    REQUIRE_NOTHROW(simulated::run(fat_tree_of_nodes(), 64, [](auto c) { contract::check_reduce_scatter(c); }));
}

TEST_CASE("a message takes latency and its bytes over bandwidth") {
    constexpr std::size_t bytes = 1'000'000;
    const auto seconds = [](const seqpar::plan::machine& m, int ranks, const auto& f) {
        std::vector<double> ends(static_cast<std::size_t>(ranks));
        const simulated::outcome all = simulated::run(m, ranks, [&](simgrid_communicator c) {
            f(c);
            ends[static_cast<std::size_t>(c.rank())] = c.now();
        });
        CHECK(all.seconds == *std::max_element(ends.begin(), ends.end()));
        return all.seconds;
    };
    const auto around = [](simgrid_communicator& c, int to, int from) {
        c.exchange({nullptr, bytes}, to, {nullptr, bytes}, from).wait();
    };
    SECTION("within a node, both ways at once") {
        CHECK(seconds(one_node(2), 2, [&](auto& c) { around(c, 1 - c.rank(), 1 - c.rank()); }) ==
              Approx(1e-6 + bytes / 1e9).epsilon(1e-9));
    }
    SECTION("within a node, all at once round a ring") {
        CHECK(seconds(one_node(7), 7, [&](auto& c) { around(c, (c.rank() + 1) % 7, (c.rank() + 6) % 7); }) ==
              Approx(1e-6 + bytes / 1e9).epsilon(1e-9));
    }
    SECTION("two to one rank share what it receives with") {
        CHECK(seconds(one_node(3), 3, [&](auto& c) {
                  if (c.rank() != 0) return c.exchange({nullptr, bytes}, 0, {}, 0).wait();
                  auto first = c.exchange({}, 0, {nullptr, bytes}, 1), second = c.exchange({}, 0, {nullptr, bytes}, 2);
                  first.wait(), second.wait();
              }) == Approx(1e-6 + 2 * bytes / 1e9).epsilon(1e-9));
    }
    SECTION("between nodes: a port, and two cables") {
        CHECK(seconds(fat_tree_of_nodes(), 8, [&](auto& c) { around(c, (c.rank() + 4) % 8, (c.rank() + 4) % 8); }) ==
              Approx(3e-6 + 2 * 5e-7 + bytes / 5e8).epsilon(1e-9));
    }
    SECTION("it moves while the rank computes, and waits for both sides") {
        CHECK(seconds(one_node(2), 2, [&](auto& c) {
                  if (c.rank() == 1) c.compute(0.5e-3); // posts late
                  auto request = c.exchange({nullptr, bytes}, 1 - c.rank(), {nullptr, bytes}, 1 - c.rank());
                  c.compute(0.9e-3);
                  request.wait();
              }) == Approx(0.5e-3 + 1e-6 + bytes / 1e9).epsilon(1e-9));
    }
}

TEST_CASE("the stacks of simulated ranks go with their run") {
    const auto mappings = [] { // none where the system does not say
        std::ifstream file("/proc/self/maps");
        return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
    };
    const auto once = [] { simulated::run(one_node(16), 16, [](simgrid_communicator c) { c.compute(1); }); };
    once();
    const auto before = mappings();
    for (int i = 0; i < 10; ++i) once();
    CHECK(mappings() < before + 100); // of 160 ranks
}

TEST_CASE("a simulated run counts what moves within nodes and between them") {
    const simulated::outcome all = simulated::run(fat_tree_of_nodes(), 8, [](simgrid_communicator c) {
        for (const int by : {0, 1, 4})
            c.exchange({nullptr, 100}, (c.rank() + by) % 8, {nullptr, 100}, (c.rank() + 8 - by) % 8).wait();
    });
    CHECK(all.inside.messages == 6); // by 1: but for 3 to 4 and 7 to 0
    CHECK(all.inside.bytes == 600);
    CHECK(all.between.messages == 10);
    CHECK(all.between.bytes == 1000);
}

TEST_CASE("simulated runs give the same times again, one after the other") {
    const auto bytes = [](int from, int by) { return static_cast<std::size_t>(1000 * (from * by % 7) + 1); };
    const auto once = [&] {
        return simulated::run(
                   fat_tree_of_nodes(), 37,
                   [&](simgrid_communicator c) {
                       for (int by = 1; by < 20; ++by) {
                           const int to = (c.rank() + by) % 37, from = (c.rank() + 37 - by) % 37;
                           c.compute(1e-7 * ((c.rank() + by) % 5));
                           c.exchange({nullptr, bytes(c.rank(), by)}, to, {nullptr, bytes(from, by)}, from).wait();
                       }
                   })
            .seconds;
    };
    const double first = once();
    CHECK(first > 0);
    CHECK(once() == Approx(first).epsilon(1e-12));
}

TEST_CASE("a failure on a simulated rank ends all, and says which") {
    const auto run = [](const auto& f) { return contract::text_thrown_by([&] { simulated::run(one_node(4), 4, f); }); };
    SECTION("an exception: the others do not wait for ever") {
        std::vector<std::string> seen(4);
        const std::string text = run([&](simgrid_communicator c) {
            if (c.rank() == 2) {
                c.compute(1e-3);
                throw std::runtime_error("out of ink");
            }
            std::byte b{};
            seen[static_cast<std::size_t>(c.rank())] = contract::text_thrown_by<seqpar::aborted>([&] {
                c.exchange({}, 0, {&b, 1}, 2).wait();
            });
        });
        CHECK(contains(text, "rank 2: out of ink"));
        for (const int r : {0, 1, 3}) CHECK(contains(seen[static_cast<std::size_t>(r)], "rank 2 failed: out of ink"));
    }
    SECTION("a rank that leaves") {
        const std::string text = run([&](simgrid_communicator c) {
            std::byte b{};
            if (c.rank() == 0) c.exchange({}, 0, {&b, 1}, 3).wait();
        });
        CHECK(contains(text, "rank 3 has ended while rank 0 waits for 1 bytes from rank 3"));
    }
    SECTION("sizes that differ, on both sides") {
        const std::string text = run([&](simgrid_communicator c) {
            std::byte b[2]{};
            if (c.rank() == 0) c.exchange({b, 1}, 1, {}, 0).wait();
            if (c.rank() == 1) c.exchange({}, 0, {b, 2}, 0).wait();
        });
        CHECK(contains(text, "rank 0 sends 1 bytes, rank 1 expects 2"));
    }
    SECTION("all wait for each other") {
        const std::string text = run([&](simgrid_communicator c) {
            std::byte b{};
            c.exchange({}, 0, {&b, 1}, (c.rank() + 1) % 4).wait();
        });
        CHECK(contains(text, "every rank that is left waits"));
        CHECK(contains(text, "rank 2 waits for 1 bytes from rank 3"));
    }
    SECTION("a refusal stays one") {
        CHECK_THROWS_AS(simulated::run(one_node(4), 4, [](simgrid_communicator) { throw seqpar::refusal("no"); }),
                        seqpar::refusal);
    }
    SECTION("and the next run knows nothing of it") {
        CHECK(simulated::run(one_node(4), 4, [](simgrid_communicator c) { c.compute(1); }).seconds == Approx(1));
    }
}

TEST_CASE("a roll call on simulated ranks takes the time of its messages, and patience is not of their clock") {
    using seqpar::collective::roll_call;
    constexpr std::chrono::milliseconds for_ever{0}, short_patience{1};
    const auto seconds = [](std::chrono::milliseconds patience, double late) {
        return simulated::run(fat_tree_of_nodes(), 7,
                              [&](simgrid_communicator c) {
                                  if (c.rank() == 3) c.compute(late);
                                  const std::vector<int> all = roll_call(c, 10 * c.rank(), patience);
                                  for (int r = 0; r < 7; ++r)
                                      if (all[static_cast<std::size_t>(r)] != 10 * r)
                                          throw seqpar::error("another value");
                              })
            .seconds;
    };
    CHECK(seconds(for_ever, 0) > 0);
    CHECK(seconds(short_patience, 0) == Approx(seconds(for_ever, 0)).epsilon(1e-12));
    // An hour, of which the clock on the wall sees nothing.
    CHECK(seconds(short_patience, 3600) == Approx(seconds(for_ever, 3600)).epsilon(1e-12));
    CHECK(seconds(short_patience, 3600) > 3600);
}

namespace {

/// What f writes to the process's stderr.
template <class F>
std::string on_stderr(const F& f) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
    std::fflush(stderr);
    const int before = dup(STDERR_FILENO);
    REQUIRE(file != nullptr);
    REQUIRE(dup2(fileno(file.get()), STDERR_FILENO) != -1);
    f();
    std::fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
    std::rewind(file.get());
    std::string text;
    for (int c = std::fgetc(file.get()); c != EOF; c = std::fgetc(file.get())) text += static_cast<char>(c);
    return text;
}

} // namespace

TEST_CASE("what is under way when a simulated rank fails is given up without a word") {
    const std::string text = on_stderr([] {
        const std::string failure = contract::text_thrown_by([] {
            simulated::run(one_node(3), 3, [](simgrid_communicator c) {
                static std::byte sent[1 << 20], came[1 << 20]; // a millisecond
                const int to = (c.rank() + 1) % 3, from = (c.rank() + 2) % 3;
                auto moves = c.exchange({sent, sizeof sent}, to, {came, sizeof came}, from);
                if (c.rank() == 1) throw std::runtime_error("out of ink");
                moves.wait();
            });
        });
        CHECK(contains(failure, "rank 1: out of ink"));
    });
    CHECK(text.find("Backtrace") == std::string::npos);
}

TEST_CASE("a simulated rank that does not call is found out at once") {
    using namespace seqpar;
    const tensor<float> x({1, 2, 1, 4});
    const auto run = [&](const auto& instead) {
        return contract::text_thrown_by([&] {
            simulated::run(one_node(3), 3, [&](simgrid_communicator c) {
                attention attend{c, ring{}, reference{}}; // with ten minutes of patience
                if (c.rank() == 1) return instead(c);
                static_cast<void>(attend.forward(x, x, x));
            });
        });
    };
    const std::string ended = run([](simgrid_communicator&) {});
    CHECK(contains(ended, "rank 1 has ended while rank "));
    CHECK(contains(ended, "ring forward, preflight, roll_call"));
    const std::string elsewhere = run([](simgrid_communicator& c) {
        std::byte b{};
        c.exchange({}, 0, {&b, 1}, 0).wait();
    });
    CHECK(contains(elsewhere, "every rank that is left waits"));
    CHECK(contains(elsewhere, "ring forward, preflight, roll_call"));
}

TEST_CASE("a simulated run within another is refused") {
    const std::string text = contract::text_thrown_by<seqpar::refusal>([] {
        simulated::run(one_node(2), 2,
                       [](simgrid_communicator) { simulated::run(one_node(2), 2, [](simgrid_communicator) {}); });
    });
    CHECK(contains(text, "one at a time"));
}
