/// The all-reduce by recursive doubling, with a fold that is not commutative: every rank's part once, and the same bits on
/// every rank.
#include <support/catch.hpp>

#include <seqpar/comm/collectives/all_reduce_doubling.hpp>
#include <seqpar/comm/threads.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <vector>

using namespace seqpar;

namespace {

/// Ranks in the order in which they were folded, -1 where there are none yet.
using order = std::array<int, 16>;

void append(order& to, const order& more) {
    auto at = std::find(to.begin(), to.end(), -1);
    for (const int rank : more)
        if (rank >= 0) *at++ = rank;
}

incoming bytes_of(order& of) { return {reinterpret_cast<std::byte*>(of.data()), sizeof of}; }

} // namespace

TEST_CASE("an all-reduce folds every rank's part once, in one order on every rank") {
    for (int ranks = 1; ranks <= 9; ++ranks) {
        std::vector<order> results(static_cast<std::size_t>(ranks));
        threads::run(ranks, [&](thread_communicator c) {
            order mine, theirs;
            mine.fill(-1), theirs.fill(-1);
            mine[0] = c.rank();
            collective::all_reduce_doubling(c, bytes_of(mine), bytes_of(theirs), [&](bool mine_first) {
                order folded = mine_first ? mine : theirs;
                append(folded, mine_first ? theirs : mine);
                mine = folded;
            });
            results[static_cast<std::size_t>(c.rank())] = mine;
        });
        INFO(ranks << " ranks");
        for (const order& each : results) CHECK(each == results.front());
        std::vector<int> folded(results.front().begin(), results.front().begin() + ranks), every(folded.size());
        CHECK(results.front()[static_cast<std::size_t>(ranks)] == -1);
        std::sort(folded.begin(), folded.end());
        std::iota(every.begin(), every.end(), 0);
        CHECK(folded == every);
    }
}
