/// Positions beyond 2^31 and 2^40: layouts, masks, shards in global order and caches that grow, exact to the last row.
#include <support/catch.hpp>

#include <seqpar/core/interleave.hpp>
#include <seqpar/decode/dealt_rows.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/rows_seen.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

using namespace seqpar;

namespace {

constexpr index_t two_31 = index_t{1} << 31, two_32 = index_t{1} << 32, two_40 = index_t{1} << 40;
const std::vector<index_t> lengths_beyond{two_31 + 11, two_32 + 1, two_40 + 7};
const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};

/// Rows of one set that are at this position: 1 if it is there, 0 if not.
[[nodiscard]] index_t holds(const positions& at, index_t p) {
    index_t count = 0;
    for (const run& r : at.runs()) {
        const index_t from = p - r.first.value;
        count += from >= 0 && from % r.stride == 0 && from / r.stride < r.count;
    }
    return count;
}

/// Positions around the places where narrower numbers end, and around the ends of the sequence.
[[nodiscard]] std::vector<index_t> telling(index_t n) {
    std::vector<index_t> all;
    for (const index_t middle : {index_t{0}, two_31, two_32, n / 2, n - 1})
        for (index_t p = middle - 9; p <= middle + 9; ++p)
            if (p >= 0 && p < n) all.push_back(p);
    return all;
}

} // namespace

TEST_CASE("layouts are bijections beyond 2^31 and 2^40 rows") {
    for (const any_layout& layout : layouts)
        for (const int size : {1, 3, 7, 1024})
            for (const index_t n : lengths_beyond) {
                INFO(layout.name() << ", P = " << size << ", N = " << n);
                std::vector<positions> shards;
                index_t total = 0, most = 0, least = n;
                for (int r = 0; r < size; ++r) {
                    shards.push_back(layout.positions(r, size, n));
                    const index_t rows = shards.back().size();
                    total += rows, most = std::max(most, rows), least = std::min(least, rows);
                    REQUIRE(shards.back()[rows - 1] == shards.back().runs().back().last());
                    for (const run& piece : shards.back().runs())
                        REQUIRE((piece.first.value >= 0 && piece.last().value < n));
                }
                CHECK(total == n);
                CHECK(most - least <= 2);
                for (const index_t p : telling(n)) {
                    index_t holders = 0;
                    for (const positions& at : shards) holders += holds(at, p);
                    REQUIRE(holders == 1);
                }
            }
}

TEST_CASE("shards of a sequence beyond 2^40 rows interleave to all of it") {
    for (const any_layout& layout : layouts)
        for (const index_t n : lengths_beyond) {
            std::vector<positions> shards;
            for (int r = 0; r < 5; ++r) shards.push_back(layout.positions(r, 5, n));
            const interleaved whole = interleave(shards);
            CHECK(whole.rows == positions::whole(n));
            for (const segment& s : whole.segments)
                for (const index_t i : {index_t{0}, s.count / 2, s.count - 1})
                    REQUIRE(shards[s.source][s.from + i].value == s.to + i * s.every);
        }
}

TEST_CASE("masks see the right keys beyond 2^31 and 2^40") {
    using predicate = std::function<bool(index_t, index_t)>;
    for (const index_t n : lengths_beyond) {
        const std::vector<index_t> cu{0, 1000, two_31 - 3, two_31 + 5, n};
        const auto document = [&](index_t p) {
            std::size_t d = 0;
            while (p >= cu[d + 1]) ++d;
            return d;
        };
        const index_t width = two_31 + 3;
        const std::vector<std::pair<any_score, predicate>> masks{
            {causal{}, [](index_t i, index_t j) { return j <= i; }},
            {causal{alignment::at(two_31 - n)}, [&](index_t i, index_t j) { return j <= i + two_31 - n; }},
            {sliding_window{width, 2}, [&](index_t i, index_t j) { return j >= i - width && j <= i + 2; }},
            {any_score(causal{}) & documents{cu},
             [&](index_t i, index_t j) { return j <= i && document(i) == document(j); }}};
        for (const auto& [mask, sees] : masks)
            for (const index_t i : telling(n)) {
                INFO(mask.name() << ", N = " << n << ", query " << i);
                // runs of few keys, one by one; neighbours, and far apart
                for (const index_t stride : {index_t{1}, index_t{7}, two_31 / 3})
                    for (const index_t middle : {index_t{0}, i, i - width, two_31, n - 1}) {
                        const index_t first = std::max<index_t>(middle - 4 * stride, 0);
                        const run keys{position(first), stride, std::min<index_t>(9, (n - 1 - first) / stride + 1)};
                        const interval seen = mask.visible({n, n}, position(i), keys);
                        index_t wrong = 0;
                        for (index_t t = 0; t < keys.count; ++t)
                            wrong += (t >= seen.first && t < seen.last) != sees(i, keys[t].value);
                        REQUIRE(wrong == 0);
                    }
                // and all of them at once: the ends of what is seen
                const interval seen = mask.visible({n, n}, position(i), run{position(0), 1, n});
                if (seen.empty()) {
                    REQUIRE_FALSE(sees(i, std::min(i, n - 1)));
                    continue;
                }
                REQUIRE(sees(i, seen.first));
                REQUIRE(sees(i, seen.last - 1));
                REQUIRE((seen.first == 0 || !sees(i, seen.first - 1)));
                REQUIRE((seen.last == n || !sees(i, seen.last)));
                const position_range here{position(i), position(i)};
                REQUIRE(mask.cover({n, n}, here, {position(seen.first), position(seen.last - 1)}) != coverage::none);
                if (seen.last < n)
                    REQUIRE(mask.cover({n, n}, here, {position(seen.last), position(seen.last)}) != coverage::full);
            }
    }
}

TEST_CASE("a sequence that grows beyond 2^40 tokens is dealt evenly, and cut where it is told to") {
    for (const any_layout& layout : layouts) {
        dealt_rows rows(3);
        index_t length = 0;
        for (const index_t tokens : {two_31 - 1, index_t{2}, index_t{1}, two_40, index_t{5}}) {
            rows.append(rows.deal(layout, tokens));
            length += tokens;
            CHECK(rows.length() == length);
            index_t total = 0;
            for (int r = 0; r < 3; ++r) total += rows.count(r);
            CHECK(total == length);
            CHECK(std::abs(rows.count(0) - rows.count(2)) <= 2);
            for (const index_t p : telling(length)) {
                index_t holders = 0;
                for (int r = 0; r < 3; ++r) holders += holds(rows.of(r), p);
                REQUIRE(holders == 1);
            }
        }
        dealt_rows one(3);
        one.append(one.deal(layout, two_40));
        one.truncate(two_31 + 1);
        CHECK(one.length() == two_31 + 1);
        index_t total = 0;
        for (int r = 0; r < 3; ++r) total += one.count(r);
        CHECK(total == two_31 + 1);
    }
}
