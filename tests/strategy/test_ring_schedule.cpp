/// The schedule of a ring: what one rank sends, another one gets, at the same step, for any route and for any pattern of who
/// sees whom; and what that costs, in closed form.
#include <support/catch.hpp>

#include "product.hpp"
#include "ring_variants.hpp"

#include <seqpar/score/rows_seen.hpp>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

constexpr index_t H = 6, Hkv = 3, d = 4;
constexpr std::size_t a = 1000; // elements of one byte and accumulators of 1000: the two can be read off one number

/// Calls use(problem) for so many rows of Q and of K on so many ranks.
template <class Use>
void with_problem(int ranks, lengths n, const any_layout& layout, const any_score& score, const Use& use) {
    std::vector<placement> where;
    for (int r = 0; r < ranks; ++r)
        where.push_back(
            {{layout.positions(r, ranks, n.queries), {0, H}}, {layout.positions(r, ranks, n.keys), {0, Hkv}}});
    const auto no_scratch = [](const extents&, const extents&, std::span<const positions>) { return std::size_t{0}; };
    const auto sees = [&](const origin& q, const origin& k) { return may_see(score, n, q.rows, k.rows); };
    use(plan::problem{.batch = 1,
                      .dim = d,
                      .dim_v = d,
                      .group = H / Hkv,
                      .element_bytes = 1,
                      .accumulator_bytes = a,
                      .where = where,
                      .kernel_bytes = no_scratch,
                      .sees = sees});
}

std::vector<plan::cost> costs(const ring& how, int ranks, index_t rows, const any_score& score, bool back = false,
                              const any_layout& layout = contiguous{}) {
    std::vector<plan::cost> all;
    with_problem(ranks, {rows, rows}, layout, score, [&](const plan::problem& p) {
        for (int r = 0; r < ranks; ++r) all.push_back(back ? how.predict_backward(p, r) : how.predict(p, r));
    });
    return all;
}

} // namespace

TEST_CASE("on every route each block visits each rank once") {
    for (int P = 1; P <= 12; ++P)
        for (const ring& how : rings(P))
            for (int owner = 0; owner < P; ++owner) {
                std::vector<int> visited(static_cast<std::size_t>(P));
                ++visited[static_cast<std::size_t>(owner)];
                for (int stream = 0; stream < how.route.streams(); ++stream) {
                    CHECK(how.route.place(stream, owner, P, 0) == owner);
                    for (int hop = 1; hop <= how.route.hops(stream, P); ++hop) {
                        const int at = how.route.place(stream, owner, P, hop);
                        CHECK(how.route.owner(stream, at, P, hop) == owner);
                        ++visited[static_cast<std::size_t>(at)];
                    }
                }
                CHECK(visited == std::vector<int>(static_cast<std::size_t>(P), 1));
            }
}

TEST_CASE("of the m hops of a double ring, K - 1 lead out of an inner ring") {
    for (const int w : {1, 2, 3, 4, 6, 12})
        for (int owner = 0; owner < 12; ++owner) {
            const ring_route route = ring_route::double_ring(w);
            int out = 0;
            for (int hop = 0; hop < 11; ++hop)
                out += route.place(0, owner, 12, hop) / w != route.place(0, owner, 12, hop + 1) / w;
            CHECK(out == 12 / w - 1);
        }
}

TEST_CASE("what is sent is expected, whoever sees whom; each needed pair meets once, and its sum comes home once") {
    std::mt19937 random(7);
    for (int P = 1; P <= 9; ++P)
        for (const ring& how : rings(P))
            for (const int density : {0, 2, 5, 10}) {
                std::vector<char> sees(static_cast<std::size_t>(P * P)); // [rank of queries, rank of keys]
                for (char& s : sees) s = static_cast<int>(random() % 10) < density;
                // a rank is known by the position of its only row
                const auto pair_sees = [&](const origin& q, const origin& k) {
                    return sees[static_cast<std::size_t>(q.rows[0].value * P + k.rows[0].value)] != 0;
                };
                with_problem(P, {P, P}, contiguous{}, full{}, [&](plan::problem p) {
                    p.sees = pair_sees;
                    const bool queries = how.passing == ring_passing::queries;
                    const plan::ring_schedule schedule(p, how.route,
                                                       queries ? ring_passing::queries : ring_passing::keys);
                    std::vector<int> met(sees.size());
                    std::vector<int> home(sees.size()); // [rank, owner]: parts in sums that are at home
                    std::map<std::pair<int, int>, std::vector<int>> under_way; // (owner, holder): ranks in the sum
                    for (int step = 0; step < schedule.steps(); ++step) {
                        using sent = std::tuple<int, int, int, int>; // kind, from, to, owner
                        std::vector<sent> out, in;
                        std::map<std::pair<int, int>, std::vector<int>> made;
                        for (int r = 0; r < P; ++r)
                            for (int s = 0; s < schedule.streams(); ++s) {
                                if (const auto l = schedule.passes_on(r, s, step))
                                    out.push_back({s, r, l.peer, l.owner});
                                if (const auto l = schedule.gets(r, s, step)) in.push_back({s, l.peer, r, l.owner});
                                if (const auto l = schedule.sends_sum(r, s, step))
                                    out.push_back({2 + s, r, l.peer, l.owner});
                                if (const int owner = schedule.visitor(r, s, step); owner >= 0) {
                                    const int q = queries ? owner : r, k = queries ? r : owner;
                                    ++met[static_cast<std::size_t>(q * P + k)];
                                    if (step > 0) made[{owner, r}] = {r};
                                }
                                if (const auto l = schedule.continues_sum(r, s, step)) {
                                    in.push_back({2 + s, l.peer, r, l.owner});
                                    auto& parts = made[{l.owner, r}];
                                    const auto& before = under_way[{l.owner, l.peer}];
                                    parts.insert(parts.end(), before.begin(), before.end());
                                }
                                if (const auto l = schedule.sum_home(r, s, step)) {
                                    in.push_back({2 + s, l.peer, r, l.owner});
                                    CHECK(l.owner == r);
                                    for (const int part : under_way[{l.owner, l.peer}])
                                        ++home[static_cast<std::size_t>(part * P + r)];
                                }
                            }
                        std::sort(out.begin(), out.end());
                        std::sort(in.begin(), in.end());
                        REQUIRE(out == in);
                        under_way = std::move(made);
                    }
                    CHECK(under_way.empty());
                    CHECK(met == std::vector<int>(sees.begin(), sees.end()));
                    for (int q = 0; q < P; ++q)
                        for (int k = 0; k < P; ++k) {
                            const int rank = queries ? k : q, owner = queries ? q : k;
                            CHECK(home[static_cast<std::size_t>(rank * P + owner)] ==
                                  (rank != owner && sees[static_cast<std::size_t>(q * P + k)] != 0));
                        }
                });
            }
}

TEST_CASE("a ring costs what the closed forms say, for even shards that all see each other") {
    constexpr std::size_t h = H * d, k = Hkv * d;
    for (const int P : {1, 2, 3, 4, 5, 7, 8})
        for (const std::size_t n : {std::size_t{1}, std::size_t{6}}) {
            const std::size_t m = static_cast<std::size_t>(P) - 1;
            const index_t rows = static_cast<index_t>(n) * P;
            const std::size_t with_sums = m == 0 ? 0 : m == 1 ? 2 : m + 2, partial = n * (h + 2 * H) * a;
            for (const ring& how : rings(P)) {
                const bool both_ways = how.route == ring_route::bidirectional();
                const std::size_t hops = both_ways ? (m + 1) / 2 : m;
                const auto forward = costs(how, P, rows, full{}), backward = costs(how, P, rows, full{}, true);
                for (int r = 0; r < P; ++r) {
                    const plan::cost &f = forward[static_cast<std::size_t>(r)],
                                     &b = backward[static_cast<std::size_t>(r)];
                    if (how.passing == ring_passing::queries) {
                        CHECK(f.bytes == n * h * m + n * m * (h + H) * a);
                        CHECK(b.bytes == 2 * n * h * m + (2 * n * H * m + n * h * m) * a);
                        CHECK(f.rounds == with_sums);
                    } else {
                        CHECK(f.bytes == 2 * n * k * m);
                        CHECK(b.bytes == 2 * n * k * m + 2 * n * k * m * a);
                        CHECK(f.rounds == hops);
                        CHECK(f.messages == m);
                        const std::size_t blocks = m == 0 ? 0 : both_ways && m > 1 ? 4 : 2;
                        CHECK(f.memory == blocks * 2 * n * k + partial);
                    }
                    CHECK(b.rounds == (hops == 0 ? 0 : hops == 1 ? 2 : hops + 2));
                    CHECK(b.messages == 2 * m);
                }
            }
        }
}

TEST_CASE("under a window a block makes ceil(W / n) hops, one way or both") {
    constexpr index_t n = 5;
    constexpr std::size_t block = 2 * n * Hkv * d;
    for (const int P : {2, 3, 4, 5, 8})
        for (index_t W = 0; W <= 8 * n; ++W) {
            const auto hops = static_cast<std::size_t>(std::min<index_t>(P - 1, (W + n - 1) / n));
            const auto one_way = costs(ring{}, P, n * P, sliding_window{W, 0});
            for (int r = 0; r < P; ++r) { // it has r blocks before its own, and passes none beyond the last rank
                const auto steps = r == P - 1 ? 0 : std::min(hops, static_cast<std::size_t>(r) + 1);
                CHECK(one_way[static_cast<std::size_t>(r)].bytes == steps * block);
            }
            if (2 * hops < static_cast<std::size_t>(P)) { // a window to both sides wants both directions
                const auto both = costs(ring{ring_route::bidirectional()}, P, n * P, sliding_window{W, W});
                std::size_t most = 0;
                for (const plan::cost& c : both) most = std::max(most, c.rounds);
                CHECK(most == hops);
            }
        }
}

TEST_CASE("causal contiguous rows: the mean of the sends halves, the maximum stays") {
    constexpr index_t n = 4;
    constexpr std::size_t block = 2 * n * Hkv * d;
    for (const int P : {2, 3, 4, 5, 7, 8}) {
        const std::size_t m = static_cast<std::size_t>(P) - 1;
        for (const bool back : {false, true}) {
            const std::size_t each = back ? block * (1 + a) : block;
            std::size_t sum = 0, most = 0;
            for (const plan::cost& c : costs(ring{}, P, n * P, causal{}, back)) {
                sum += c.bytes;
                most = std::max(most, c.bytes);
            }
            CHECK(2 * sum == static_cast<std::size_t>(P) * m * each);
            // blocks leave by the last rank but one; a sum is sent by each rank that sees a block of another's
            CHECK(most == (back ? std::max(m * block + (m - 1) * block * a, m * block * a) : m * block));
        }
    }
}

TEST_CASE("automatic takes what sends less, in each pass") {
    for (const int P : {2, 3, 5})
        for (const auto& [queries, keys] :
             std::vector<std::pair<index_t, index_t>>{{2, 90}, {40, 40}, {300, 7}, {0, 9}})
            for (const any_score& score : all_scores())
                for (const bool back : {false, true})
                    with_problem(P, {queries, keys}, contiguous{}, score, [&](const plan::problem& given) {
                        plan::problem p = given;
                        p.accumulator_bytes = 2;
                        const auto total = [&](ring_passing what) {
                            std::size_t bytes = 0;
                            for (int r = 0; r < P; ++r)
                                bytes += (back ? ring{.passing = what}.predict_backward(p, r)
                                               : ring{.passing = what}.predict(p, r))
                                             .bytes;
                            return bytes;
                        };
                        CHECK(total(ring_passing::automatic) ==
                              std::min(total(ring_passing::keys), total(ring_passing::queries)));
                        const auto pass = back ? plan::pass::backward : plan::pass::forward;
                        CHECK(plan::ring_bytes(p, {}, ring_passing::keys, pass) == total(ring_passing::keys));
                        CHECK(plan::ring_bytes(p, {}, ring_passing::queries, pass) == total(ring_passing::queries));
                    });
}

TEST_CASE("moving Q beats moving K, V when Nq / Nk < 1 / g, the return of the outputs counted") {
    for (const index_t keys : {index_t{40}, index_t{200}})
        for (index_t queries = 4; queries < 200; queries += 4) {
            // FORMULAS: elements of one size, lse left out; here with lse: nq (2 h + H) < 2 nk k
            with_problem(4, {queries, keys}, contiguous{}, full{}, [&](const plan::problem& given) {
                plan::problem p = given;
                p.accumulator_bytes = 1;
                const bool less =
                    plan::ring_choice(p, {}, ring_passing::automatic, plan::pass::forward) == ring_passing::queries;
                CHECK(less == (queries * (2 * H * d + H) < 2 * keys * Hkv * d));
            });
        }
}

TEST_CASE("rings have names, and refuse what does not fit") {
    CHECK(ring{}.name() == "ring");
    CHECK(ring{ring_route::bidirectional()}.name() == "ring:bidirectional");
    CHECK(ring{ring_route::double_ring(4)}.name() == "ring:double=4");
    CHECK(ring{.passing = ring_passing::queries}.name() == "ring:pass=q");
    CHECK(ring{.passing = ring_passing::automatic}.name() == "ring:pass=auto");
    const auto said = [](const ring& how, int size) {
        try {
            how.check(size);
        } catch (const refusal& why) {
            return std::string(why.what());
        }
        return std::string();
    };
    for (const int P : {1, 2, 6, 7})
        for (const ring& how : rings(P)) CHECK(said(how, P).empty());
    CHECK(said(ring{ring_route::double_ring(4)}, 6) ==
          "a double ring of inner rings of 4 ranks does not fit 6 ranks: allowed are 1, 2, 3, 6");
    CHECK(said(ring{ring_route::double_ring(0)}, 2).find("allowed are 1, 2") != std::string::npos);
    CHECK(said(ring{ring_route::double_ring(-1)}, 2).find("allowed are 1, 2") != std::string::npos);
    CHECK(said(ring{ring_route::double_ring(8)}, 4).find("allowed are 1, 2, 4") != std::string::npos);
    CHECK(said(ring{ring_route::bidirectional(), ring_passing::queries}, 4) ==
          "ring:bidirectional:pass=q: queries travel one way: allowed are ring:pass=q and ring:pass=auto, or "
          "ring:bidirectional");
    CHECK(said(ring{ring_route::double_ring(2), ring_passing::automatic}, 4).find("ring:double=2") !=
          std::string::npos);
}
