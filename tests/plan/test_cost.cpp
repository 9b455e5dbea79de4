/// The cost formulas against the closed forms of the literature, for even shards. That they are what is really sent is
/// tested with the strategies.
#include <support/catch.hpp>

#include <seqpar/kernel/kernel.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <algorithm>
#include <bit>
#include <vector>

using namespace seqpar;

namespace {

struct sizes {
    std::size_t n, P, H, Hkv, d; ///< rows a rank, ranks, heads, kv heads, head dim

    [[nodiscard]] std::size_t m() const { return P - 1; }
    [[nodiscard]] std::size_t h() const { return H * d; }
    [[nodiscard]] std::size_t k() const { return Hkv * d; }
};

template <class Strategy>
plan::cost cost_of(const Strategy& strategy, const sizes& s, bool lse) {
    const auto rows = static_cast<index_t>(s.n * s.P);
    std::vector<placement> where;
    for (int r = 0; r < static_cast<int>(s.P); ++r) {
        const positions at = contiguous{}.positions(r, static_cast<int>(s.P), rows);
        where.push_back({{at, {0, static_cast<index_t>(s.H)}}, {at, {0, static_cast<index_t>(s.Hkv)}}});
    }
    const auto no_scratch = [](const extents&, const extents&, std::span<const positions>) { return std::size_t{0}; };
    const auto d = static_cast<index_t>(s.d);
    // elements of one byte and accumulators of 1000: the two can be read off one number
    return strategy.predict({.batch = 1,
                             .dim = d,
                             .dim_v = d,
                             .group = static_cast<index_t>(s.H / s.Hkv),
                             .element_bytes = 1,
                             .accumulator_bytes = 1000,
                             .lse = lse,
                             .where = where,
                             .kernel_bytes = no_scratch},
                            1);
}

} // namespace

TEST_CASE("cost formulas are the closed forms") {
    for (const sizes& s : {sizes{16, 4, 8, 8, 4}, sizes{10, 2, 8, 2, 4}, sizes{5, 8, 16, 8, 3}, sizes{6, 4, 8, 4, 2}}) {
        const std::size_t n = s.n, m = s.m(), P = s.P;
        CHECK(cost_of(ring{}, s, true).bytes == 2 * n * s.k() * m);
        CHECK(cost_of(ring{}, s, true).messages == m);
        CHECK(cost_of(ring{}, s, true).rounds == m);
        const auto both_ways = cost_of(ring{ring_route::bidirectional()}, s, true);
        CHECK(both_ways.bytes == 2 * n * s.k() * m);
        CHECK(both_ways.rounds == (m + 1) / 2);
        const auto in_pairs = cost_of(ring{ring_route::double_ring(2)}, s, true);
        CHECK(in_pairs.bytes == 2 * n * s.k() * m);
        CHECK(in_pairs.rounds == m);
        const auto queries = cost_of(ring{.passing = ring_passing::queries}, s, true);
        CHECK(queries.bytes == n * s.h() * m + 1000 * n * m * (s.h() + s.H));
        CHECK(queries.messages == 2 * m);
        CHECK(queries.rounds == (m == 1 ? 2 : m + 2));
        for (const exchange_pattern pattern :
             {exchange_pattern::direct, exchange_pattern::ring, exchange_pattern::doubling}) {
            const std::size_t gather = pattern == exchange_pattern::doubling ? std::bit_width(P - 1) : m;
            const auto gathered = cost_of(all_gather{0, pattern}, s, true);
            CHECK(gathered.bytes == 2 * n * s.k() * m);
            CHECK(gathered.messages == gather);
            CHECK(gathered.rounds == gather);
            for (const std::size_t c : std::vector<std::size_t>{1, 2, 3}) {
                const auto streamed = cost_of(all_gather{static_cast<int>(c), pattern}, s, true);
                CHECK(streamed.bytes == 2 * n * s.k() * m);
                CHECK(streamed.messages == gather + m);
                CHECK(streamed.rounds == gather + (m + c - 1) / c);
            }
        }
        for (const bool lse : {true, false}) {
            const auto c = cost_of(tree{}, s, lse); // (out, lse) travels whether lse is returned or not
            CHECK(c.bytes == n * s.h() * m + 1000 * n * m * (s.h() + s.H));
            CHECK(c.messages == 2 * m);
            CHECK(c.rounds == 2 * m);
            // all results and the one that leaves are there, and the partial of the last ones
            CHECK(c.memory == 1000 * n * (P + 1) * (s.h() + s.H) + 1000 * n * (s.h() + 2 * s.H));
        }
        if (s.Hkv >= P) {
            CHECK(cost_of(ulysses<>{}, s, false).bytes == (2 * s.h() + 2 * s.k()) * n * m / P);
            CHECK(cost_of(ulysses<>{}, s, true).bytes == (2 * s.h() + 2 * s.k()) * n * m / P + 1000 * s.H * n * m / P);
            CHECK(cost_of(ulysses<>{}, s, true).rounds == 2 * m);
        }
        // held beyond the own rows, partial and lower bounds of FORMULAS: ring 4nk
        CHECK(cost_of(ring{}, s, true).memory == 4 * n * s.k() + n * s.H * (s.d + 2) * 1000);
        // all-gather 2Nk: the own K, V leave before the partial is there where each is sent directly, or stay
        const std::size_t partial = n * s.H * (s.d + 2) * 1000;
        CHECK(cost_of(all_gather{}, s, true).memory == std::max(2 * n * P * s.k(), 2 * n * m * s.k() + partial));
        CHECK(cost_of(all_gather{0, exchange_pattern::ring}, s, true).memory == 2 * n * P * s.k() + partial);
        CHECK(cost_of(all_gather{0, exchange_pattern::doubling}, s, true).memory == 2 * n * P * s.k() + partial);
    }
}

TEST_CASE("kv heads that are fewer than ranks are replicated as often as they are read") {
    const sizes s{7, 8, 8, 2, 4}; // each rank has one query head, so reads one kv head: k' = P d
    CHECK(cost_of(ulysses<>{}, s, false).bytes == (2 * s.h() + 2 * s.P * s.d) * s.n * s.m() / s.P);
}

TEST_CASE("ulysses over ring") {
    const sizes s{6, 8, 8, 8, 4};
    const std::size_t n = s.n, u = 4, r = 2;
    // k' over u: here each member reads Hkv / u kv heads, so k' = k
    CHECK(cost_of(ulysses<ring>{4, {}}, s, false).bytes ==
          (2 * s.h() + 2 * s.k()) * n * (u - 1) / u + 2 * n * s.k() * (r - 1));
    CHECK(cost_of(ulysses<ring>{4, {}}, s, false).rounds == 2 * (u - 1) + r - 1);
}

TEST_CASE("MiB a rank, forward: H = 32, d = 128, Hkv = 8, N = 131072, two bytes an element") {
    const auto mib = [](const plan::cost& c) { return 2.0 * static_cast<double>(c.bytes) / (1 << 20); };
    CHECK(mib(cost_of(ulysses<>{}, sizes{131072 / 8, 8, 32, 8, 128}, false)) == 280);
    CHECK(mib(cost_of(ring{}, sizes{131072 / 8, 8, 32, 8, 128}, false)) == 448);
    CHECK(mib(cost_of(ulysses<>{}, sizes{131072 / 32, 32, 32, 8, 128}, false)) == 124);
    CHECK(mib(cost_of(ring{}, sizes{131072 / 32, 32, 32, 8, 128}, false)) == 496);
    CHECK(mib(cost_of(ulysses<ring>{8, {}}, sizes{131072 / 32, 32, 32, 8, 128}, false)) == 118);
}

TEST_CASE("ulysses sends less than ring exactly when P > g + 1") {
    for (const std::size_t g : std::vector<std::size_t>{1, 2, 4, 7})
        for (const std::size_t P : std::vector<std::size_t>{2, 3, 4, 5, 8, 9}) {
            const sizes s{P * g, P, P * g, P, 4};
            const auto a = cost_of(ulysses<>{}, s, false).bytes, b = cost_of(ring{}, s, false).bytes;
            CHECK((a < b) == (P > g + 1));
            CHECK((a == b) == (P == g + 1));
        }
}
