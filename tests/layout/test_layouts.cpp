#include <support/catch.hpp>

#include <seqpar/core/interleave.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>

#include <algorithm>
#include <vector>

using namespace seqpar;

namespace {
const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};
}

TEST_CASE("layouts are bijections for every N and P") {
    for (const any_layout& layout : layouts)
        for (int size = 1; size <= 9; ++size)
            for (index_t n = 0; n <= 70; ++n) {
                std::vector<int> holders(static_cast<std::size_t>(n), 0);
                index_t most = 0, least = n + 1;
                for (int r = 0; r < size; ++r) {
                    const positions at = layout.positions(r, size, n);
                    for (index_t i = 0; i < at.size(); ++i) {
                        REQUIRE(at[i].value >= 0);
                        REQUIRE(at[i].value < n);
                        ++holders[static_cast<std::size_t>(at[i].value)];
                    }
                    most = std::max(most, at.size());
                    least = std::min(least, at.size());
                }
                INFO(layout.name() << ", P = " << size << ", N = " << n);
                REQUIRE(std::all_of(holders.begin(), holders.end(), [](int h) { return h == 1; }));
                REQUIRE(most - least <= 2);
            }
}

TEST_CASE("layouts place rows where their papers say") {
    CHECK(contiguous{}.positions(1, 4, 10) == positions{run{position(3), 1, 3}});
    CHECK(zigzag{}.positions(1, 2, 8) == positions{run{position(2), 1, 2}, run{position(4), 1, 2}});
    CHECK(zigzag{}.positions(0, 2, 8) == positions{run{position(0), 1, 2}, run{position(6), 1, 2}});
    CHECK(striped{}.positions(2, 4, 11) == positions{run{position(2), 4, 3}});
    CHECK(striped{}.positions(3, 4, 3).empty());
}

TEST_CASE("causal work is balanced under zigzag and striped, not under contiguous") {
    // pairs (query, key <= query) of the busiest rank over the mean, at P = 8, N = 128
    const auto imbalance = [](const any_layout& layout) {
        double most = 0, total = 0;
        for (int r = 0; r < 8; ++r) {
            double work = 0;
            const positions at = layout.positions(r, 8, 128);
            for (index_t i = 0; i < at.size(); ++i) work += static_cast<double>(at[i].value + 1);
            most = std::max(most, work);
            total += work;
        }
        return most / (total / 8);
    };
    CHECK(imbalance(contiguous{}) == Approx(1.87).margin(0.005));
    CHECK(imbalance(zigzag{}) == Approx(1.00).margin(0.005));
    CHECK(imbalance(striped{}) == Approx(1.05).margin(0.005));
}

TEST_CASE("shards interleave to one run in global order, and know where each row goes") {
    for (const any_layout& layout : layouts)
        for (int size = 1; size <= 9; ++size)
            for (index_t n = 0; n <= 70; ++n) {
                std::vector<positions> shards;
                for (int r = 0; r < size; ++r) shards.push_back(layout.positions(r, size, n));
                const interleaved whole = interleave(shards);
                INFO(layout.name() << ", P = " << size << ", N = " << n);
                REQUIRE(whole.rows == positions::whole(n));
                for (const segment& s : whole.segments)
                    for (index_t i = 0; i < s.count; ++i)
                        REQUIRE(shards[s.source][s.from + i].value == s.to + i * s.every);
            }
}

TEST_CASE("any sets of rows interleave to their union, some of the ranks included") {
    for (const any_layout& layout : layouts)
        for (const auto& [first, last] : {std::pair{0, 2}, std::pair{2, 4}, std::pair{1, 4}, std::pair{3, 7}}) {
            std::vector<positions> shards;
            std::vector<index_t> expected;
            for (int r = first; r < last; ++r) {
                shards.push_back(layout.positions(r, 8, 61));
                for (index_t i = 0; i < shards.back().size(); ++i) expected.push_back(shards.back()[i].value);
            }
            const interleaved some = interleave(shards);
            std::vector<index_t> found;
            index_t filled = 0;
            for (const segment& s : some.segments)
                for (index_t i = 0; i < s.count; ++i, ++filled) {
                    REQUIRE(some.rows[s.to + i * s.every] == shards[s.source][s.from + i]);
                    found.push_back(some.rows[s.to + i * s.every].value);
                }
            CHECK(filled == some.rows.size());
            std::sort(found.begin(), found.end());
            std::sort(expected.begin(), expected.end());
            CHECK(found == expected);
        }
}

TEST_CASE("runs that interleave only in part are no single run") {
    // Of steps of 2 and of 3, side by side as if dealt out, and of lengths that no deal has.
    for (const std::vector<positions>& sources :
         {std::vector<positions>{{run{position(0), 2, 5}}, {run{position(1), 2, 2}}},
          std::vector<positions>{{run{position(0), 2, 2}}, {run{position(1), 2, 3}}},
          std::vector<positions>{{run{position(4), 3, 4}}, {run{position(5), 3, 3}}, {run{position(6), 3, 4}}}}) {
        const interleaved both = interleave(sources);
        index_t filled = 0;
        for (const segment& s : both.segments)
            for (index_t i = 0; i < s.count; ++i, ++filled)
                CHECK(both.rows[s.to + i * s.every] == sources[s.source][s.from + i]);
        index_t all = 0;
        for (const positions& rows : sources) all += rows.size();
        CHECK(filled == all);
        CHECK(both.rows.size() == all);
    }
}
