/// Ranks whose messages come late, in pieces and in any order that the contract allows.
#include "adversary_case.hpp"

#include <support/catch.hpp>
#include <support/comm_contract.hpp>

#include <seqpar/comm/shuffled.hpp>
#include <seqpar/comm/threads.hpp>

using namespace seqpar;
using namespace seqpar::testing;

using late_ranks = shuffled<thread_communicator>;

namespace {

void all_strategies_with(std::uint64_t first_seed, std::uint64_t seeds, std::initializer_list<int> rank_counts) {
    for (const int ranks : rank_counts)
        each_work<late_ranks>(ranks, [&](const std::string& name, const auto& work) {
            for (std::uint64_t seed = first_seed; seed < first_seed + seeds; ++seed) {
                INFO(name << " on " << ranks << ", seed " << seed);
                REQUIRE_NOTHROW(threads::run(ranks, [&](thread_communicator world) { work(late_ranks(world, seed)); }));
            }
        });
}

} // namespace

TEST_CASE("shuffled fulfils the contract") {
    const int ranks = GENERATE(1, 2, 3, 4, 7);
    const std::uint64_t seed = GENERATE(1U, 2U);
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " on " << ranks << ", seed " << seed);
        REQUIRE_NOTHROW(threads::run(ranks, [&](thread_communicator c) { check(late_ranks(c, seed)); }));
    });
}

TEST_CASE("shuffled lets messages go late, in pieces and in other orders") {
    // What arrives at the inner communicator of rank 0, which posts 4 sends to each of 3 others.
    struct diary {
        std::vector<int> peers;
        std::vector<std::size_t> bytes;
    };
    struct observed : thread_communicator {
        observed(thread_communicator c, std::shared_ptr<diary> into) : thread_communicator(c), log(std::move(into)) {}
        auto exchange(outgoing out, int to, incoming in, int from) {
            if (out.bytes != 0) log->peers.push_back(to), log->bytes.push_back(out.bytes);
            return thread_communicator::exchange(out, to, in, from);
        }
        observed split(int color, int key) { return {thread_communicator::split(color, key), log}; }
        std::shared_ptr<diary> log;
    };
    std::vector<std::vector<int>> orders;
    bool in_pieces = false, late_once = false;
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        const auto of_rank_0 = std::make_shared<diary>();
        std::size_t posted_at_once = 0;
        threads::run(4, [&](thread_communicator world) {
            const auto log = world.rank() == 0 ? of_rank_0 : std::make_shared<diary>();
            shuffled<observed> c(observed(world, log), seed);
            std::vector<contract::bytes> kept;
            std::vector<request_t<shuffled<observed>>> requests;
            for (int n = 0; n < 4; ++n)
                for (int r = 1; r < 4; ++r) {
                    const std::size_t size = 50 + static_cast<std::size_t>(n);
                    if (c.rank() == 0) kept.push_back(contract::letter(0, r, n, size));
                    if (c.rank() == r) kept.push_back(contract::blank(size));
                    if (c.rank() == 0) requests.push_back(c.exchange(contract::out_of(kept.back()), r, {}, r));
                    if (c.rank() == r) requests.push_back(c.exchange({}, 0, contract::in_to(kept.back()), 0));
                }
            if (c.rank() == 0) posted_at_once = log->peers.size();
            for (auto& request : requests) request.wait();
            for (int n = 0; n < 4 && c.rank() != 0; ++n)
                if (kept[static_cast<std::size_t>(n)] !=
                    contract::letter(0, c.rank(), n, 50 + static_cast<std::size_t>(n)))
                    throw error("other bytes");
        });
        orders.push_back(of_rank_0->peers);
        late_once = late_once || posted_at_once < of_rank_0->peers.size();
        for (const std::size_t bytes : of_rank_0->bytes) in_pieces = in_pieces || bytes < 50;
    }
    CHECK(late_once);
    CHECK(in_pieces);
    CHECK(orders[0] != orders[1]);
    CHECK(orders[1] != orders[2]);
}

TEST_CASE("every strategy is right whatever the order of messages") { all_strategies_with(1, 1, {1, 2, 3, 4, 5}); }

TEST_CASE("every strategy is right whatever the order of messages, over seeds", "[slow]") {
    all_strategies_with(100, 25, {2, 3, 4, 5, 6});
}
