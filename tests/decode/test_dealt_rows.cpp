/// Which rank holds which token of a sequence that grows: all held once, balanced, in few runs.
#include <support/catch.hpp>
#include <support/same_rows.hpp>

#include <seqpar/decode/dealt_rows.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>

#include <algorithm>
#include <random>
#include <vector>

using namespace seqpar;

namespace {

const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};

struct shares {
    bool once = true; ///< every token is held by one rank, once
    index_t spread = 0;
    std::size_t runs = 0; ///< of the rank that has most
};

[[nodiscard]] shares of(const dealt_rows& rows, int size) {
    std::vector<int> holders(static_cast<std::size_t>(rows.length()), 0);
    index_t fewest = rows.length(), most = 0;
    shares s;
    for (int r = 0; r < size; ++r) {
        const positions held = rows.of(r);
        s.once = s.once && held.size() == rows.count(r);
        for (const run& part : held.runs())
            for (index_t i = 0; i < part.count; ++i) ++holders.at(static_cast<std::size_t>(part[i].value));
        s.runs = std::max(s.runs, held.runs().size());
        fewest = std::min(fewest, held.size()), most = std::max(most, held.size());
    }
    s.once = s.once && std::all_of(holders.begin(), holders.end(), [](int n) { return n == 1; });
    s.spread = most - fewest;
    return s;
}

} // namespace

TEST_CASE("every token is held once, ranks differ by one row at most, whatever the chunks") {
    for (const any_layout& layout : layouts)
        for (int size = 1; size <= 9; ++size) {
            std::mt19937 random(static_cast<unsigned>(size));
            dealt_rows rows(size);
            std::size_t chunks = 0;
            for (; chunks < 60; ++chunks) {
                rows.append(rows.deal(layout, static_cast<index_t>(random() % 40)));
                const shares s = of(rows, size);
                REQUIRE(s.once);
                REQUIRE(s.spread <= 1);
                REQUIRE(s.runs <=
                        (layout.name() == "striped" ? 1 : (layout.name() == "zigzag" ? 2 : 1) * (chunks + 1)));
            }
        }
}

TEST_CASE("a prompt and then tokens one by one, or a few at a time, make few runs") {
    for (const any_layout& layout : layouts)
        for (int size = 1; size <= 9; ++size)
            for (index_t prompt = 0; prompt < 40; ++prompt)
                for (index_t chunk = 1; chunk <= size; ++chunk) {
                    dealt_rows rows(size);
                    rows.append(rows.deal(layout, prompt));
                    const std::size_t before = of(rows, size).runs;
                    for (int step = 0; step < 30; ++step) rows.append(rows.deal(layout, chunk));
                    const shares s = of(rows, size);
                    REQUIRE(s.once);
                    REQUIRE(s.spread <= 1);
                    INFO(layout.name() << " P " << size << " prompt " << prompt << " chunk " << chunk);
                    REQUIRE(s.runs <= before + 2);
                }
}

TEST_CASE("the first chunk lies as the layout says") {
    for (const any_layout& layout : layouts)
        for (int size = 1; size <= 9; ++size)
            for (index_t n = 0; n < 40; ++n) {
                dealt_rows rows(size);
                rows.append(rows.deal(layout, n));
                for (int r = 0; r < size; ++r) REQUIRE(testing::same_rows(rows.of(r), layout.positions(r, size, n)));
            }
}

TEST_CASE("truncating leaves what was before, and what follows evens out") {
    for (const any_layout& layout : layouts)
        for (int size = 1; size <= 8; ++size) {
            std::mt19937 random(static_cast<unsigned>(size));
            dealt_rows rows(size);
            for (int step = 0; step < 60; ++step) {
                rows.append(rows.deal(layout, static_cast<index_t>(random() % 30)));
                const index_t stay = rows.length() - static_cast<index_t>(random() % 20);
                if (stay < 0) continue;
                std::vector<std::vector<index_t>> before;
                const auto listed = [&](int r) {
                    std::vector<index_t> all;
                    const positions held = rows.of(r);
                    for (index_t i = 0; i < held.size(); ++i)
                        if (held[i].value < stay) all.push_back(held[i].value);
                    return all;
                };
                for (int r = 0; r < size; ++r) before.push_back(listed(r));
                rows.truncate(stay);
                REQUIRE(of(rows, size).once);
                for (int r = 0; r < size; ++r) {
                    REQUIRE(listed(r) == before[static_cast<std::size_t>(r)]);
                    REQUIRE(rows.count(r) == static_cast<index_t>(before[static_cast<std::size_t>(r)].size()));
                }
                const index_t spread = of(rows, size).spread;
                dealt_rows later = rows;
                for (index_t n = 0; n < spread * size; ++n) later.append(later.deal(layout, 1));
                REQUIRE(of(later, size).spread <= 1);
            }
        }
}

namespace {

/// Rows in falling order.
struct reversed {
    [[nodiscard]] seqpar::positions positions(int rank, int size, index_t n) const {
        seqpar::positions all;
        for (index_t i = n - 1; i >= 0; --i)
            if (i % size == rank) all.append({position(i), 1, 1});
        return all;
    }
    [[nodiscard]] std::string name() const { return "reversed"; }
};

/// All on the last rank.
struct all_on_the_last {
    [[nodiscard]] seqpar::positions positions(int rank, int size, index_t n) const {
        return rank == size - 1 ? seqpar::positions::whole(n) : seqpar::positions{};
    }
    [[nodiscard]] std::string name() const { return "all_on_the_last"; }
};

} // namespace

TEST_CASE("a layout of one's own is dealt, too") {
    dealt_rows rows(3);
    for (int step = 0; step < 10; ++step) rows.append(rows.deal(reversed{}, 7));
    CHECK(of(rows, 3).once);
    CHECK(of(rows, 3).spread <= 1);
    CHECK_THROWS_WITH(rows.truncate(68), "truncate to 68 tokens: the layout has put later tokens before earlier ones; "
                                         "nearest is 0, to start anew");
    CHECK_THROWS_WITH(rows.truncate(71), "truncate to 71 tokens: the sequence has 70, allowed are 0 to that");
    rows.truncate(0);
    CHECK(rows.length() == 0);

    dealt_rows whole(3);
    for (int step = 0; step < 10; ++step) whole.append(whole.deal(all_on_the_last{}, 7));
    CHECK(of(whole, 3).once);
    CHECK(of(whole, 3).spread <= 7); // the largest part is 7 rows longer than the smallest
}
