/// Decode: after every step, what every rank has is what a full recomputation over the whole sequence gives.
#include "decode_case.hpp"

#include <support/catch.hpp>
#include <support/naive.hpp>

#include <seqpar/score/alibi.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/softcap.hpp>
#include <seqpar/seqpar.hpp>

#include <mutex>
#include <random>
#include <string>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

/// Runs the case on thread ranks and returns what they complain of.
template <real_element T, class Kernel>
[[nodiscard]] std::string trouble_on(int ranks, const Kernel& kernel, const decode_case& c) {
    std::string all;
    std::mutex mutex;
    threads::run(ranks, [&](thread_communicator world) {
        const std::string mine = trouble_with<T>(world, kernel, c);
        const std::lock_guard lock(mutex);
        all += mine;
    });
    return all;
}

const std::vector<int> some_ranks{1, 2, 3, 4, 5, 7, 8};
const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};

/// Prompts of unequal length, then chunks and single tokens; a sequence that starts late and one that stays empty.
[[nodiscard]] std::vector<growth> ragged(std::uint64_t seed, std::size_t steps) {
    std::vector<growth> all{{{17, 5, 0, 0}, 3}};
    std::mt19937_64 random(seed);
    while (all.size() < steps) {
        growth g{{}, 4};
        for (const index_t most : {4, 2, 7, 0}) g.counts.push_back(static_cast<index_t>(random() % 9) * most / 8);
        all.push_back(g);
    }
    return all;
}

[[nodiscard]] std::vector<growth> chunks(std::initializer_list<index_t> sizes, index_t queried) {
    std::vector<growth> all;
    for (const index_t c : sizes) all.push_back({{c}, queried});
    return all;
}

constexpr index_t every_query = 1000;

} // namespace

TEST_CASE("a thousand tokens, one by one, each step as a full recomputation") {
    const decode_case c{{1, 1, 4, 3}, 2, striped{}, causal{}, one_by_one(1, 1000)};
    CHECK(trouble_on<float>(4, flash{}, c) == "");
    const decode_case d{{1, 1, 2, 2}, 2, zigzag{}, causal{}, one_by_one(1, 1000)};
    CHECK(trouble_on<double>(3, reference{}, d) == "");
}

TEST_CASE("a thousand tokens on every number of ranks", "[slow]") {
    for (const int ranks : some_ranks)
        for (const any_layout& layout : layouts)
            for (const any_score& s : {any_score(causal{}), any_score(sliding_window{100, 0})})
                CHECK(trouble_on<float>(ranks, flash{}, {{2, 2, 8, 5}, 4, layout, s, one_by_one(2, 1000)}) == "");
}

TEST_CASE("tokens one by one, on every number of ranks, in every layout") {
    for (const int ranks : some_ranks)
        for (const any_layout& layout : layouts) {
            CHECK(trouble_on<float>(ranks, flash{}, {{1, 2, 8, 5}, 6, layout, causal{}, one_by_one(1, 40)}) == "");
            CHECK(trouble_on<double>(ranks, reference{}, {{2, 1, 3, 4}, 2, layout, full{}, one_by_one(2, 25)}) == "");
        }
}

TEST_CASE("chunks of odd sizes and speculated tokens, all queried or only the last") {
    for (const int ranks : some_ranks)
        for (const any_layout& layout : layouts)
            for (const bool own : {false, true})
                for (const index_t queried : {index_t{1}, every_query}) {
                    decode_case c{{1, 2, 5, 4}, 4, layout, causal{}, chunks({23, 1, 3, 1, 1, 9, 2, 16, 1, 5}, queried)};
                    c.own = own;
                    CHECK(trouble_on<float>(ranks, flash{}, c) == "");
                    c.score = sliding_window{6, 0};
                    CHECK(trouble_on<bfloat16>(ranks, flash{}, c) == "");
                }
}

TEST_CASE("sequences of unequal length in one batch") {
    std::uint64_t seed = 0;
    for (const int ranks : some_ranks)
        for (const any_layout& layout : layouts)
            for (const any_score& s : {any_score(causal{}), any_score(full{}), any_score(sliding_window{3, 0})}) {
                decode_case c{{4, 1, 4, 6}, 3, layout, s, ragged(++seed, 12)};
                c.own = seed % 2 == 0;
                CHECK(trouble_on<float>(ranks, flash{}, c) == "");
            }
}

TEST_CASE("scores that change values, and sinks, which join once") {
    const std::vector<double> slopes{0.5, 0.25, 0.125}, logits{0.5, -1, 3};
    const std::vector<any_score> scores{any_score(softcap{3}), any_score(alibi{slopes}) & causal{}, sink{logits},
                                        any_score(causal{}) & softcap{2} & alibi{slopes} & sink{logits}};
    std::uint64_t seed = 100;
    for (const int ranks : some_ranks)
        for (const any_score& s : scores) {
            const any_layout& layout = layouts[seed % 3];
            CHECK(trouble_on<double>(ranks, reference{}, {{4, 3, 4, 2}, 3, layout, s, ragged(++seed, 10)}) == "");
            CHECK(trouble_on<float>(ranks, reference{}, {{1, 1, 4, 2}, 3, layout, s, one_by_one(1, 20)}) == "");
        }
}

namespace {

/// A bias that differs from sequence to sequence of a batch.
struct by_sequence : full {
    [[nodiscard]] score_stages stages() const noexcept { return bit(score_stage::bias); }
    template <class A>
    void modify(score_stage, const score_row& row, std::span<A> x, std::span<A>) const {
        for (std::size_t j = 0; j < x.size(); ++j)
            x[j] += static_cast<A>(row.batch + 1) * static_cast<A>(row.keys[static_cast<index_t>(j)].value % 3);
    }
    [[nodiscard]] std::string name() const { return "by_sequence"; }
};

} // namespace

TEST_CASE("a score is told which sequence of the batch a row is of") {
    for (const int ranks : {1, 2, 3})
        CHECK(trouble_on<float>(ranks, reference{}, {{4, 1, 4, 2}, 2, striped{}, by_sequence{}, ragged(7, 6)}) == "");
}

TEST_CASE("a step is what the definition, written without the library, says") {
    constexpr index_t n = 37, rows = 3;
    const auto q = normal<double>({1, n, 4, 6}, 1), k = normal<double>({1, n, 2, 6}, 2),
               v = normal<double>({1, n, 2, 5}, 3);
    const auto want = naive_attention(q.view(), k.view(), v.view(), 1 / std::sqrt(6.0),
                                      [](index_t i, index_t j) { return j <= i && j + 9 >= i; });
    threads::run(5, [&](thread_communicator world) {
        kv_cache<double, zigzag> cache(world, {1, 2, 6, 5});
        decode attend{world, causal{} & sliding_window{9, -1}};
        double worst = 0;
        for (index_t at = 0; at + rows <= n; at += rows) {
            cache.append(k.view().rows(at, rows), v.view().rows(at, rows));
            const auto [out, lse] = attend.step(q.view().rows(at, rows), cache);
            for (index_t i = 0; i < rows; ++i)
                for (index_t h = 0; h < 4; ++h) {
                    const auto row = static_cast<std::size_t>((at + i) * 4 + h);
                    worst = std::max(worst, std::abs(lse(0, i, h) - static_cast<double>(want.lse[row])));
                    for (index_t d = 0; d < 5; ++d)
                        worst = std::max(
                            worst, std::abs(out(0, i, h, d) -
                                            static_cast<double>(want.out[row * 5 + static_cast<std::size_t>(d)])));
                }
        }
        if (!(worst < 1e-14)) throw error("off by " + std::to_string(worst)); // 60 u: values are of the size of 1
    });
}

TEST_CASE("what prefill has left on the ranks is taken over as it lies") {
    for (const any_layout& layout : layouts)
        for (const int ranks : some_ranks) {
            constexpr index_t n = 29;
            const auto k = normal<float>({1, n, 1, 4}, 2), v = normal<float>({1, n, 1, 4}, 3);
            threads::run(ranks, [&](thread_communicator world) {
                const positions mine = layout.positions(world.rank(), world.size(), n);
                kv_cache<float, any_layout> cache(world, {1, 1, 4, 4}, layout);
                if (!same_rows(cache.share(0, n), mine))
                    throw error("the first chunk is dealt otherwise than the layout says");
                cache.append(k, v);
                if (!same_rows(cache.held_by(world.rank(), 0), mine)) throw error("and so is what is held");
            });
        }
}

TEST_CASE("an empty cache has seen nothing") {
    threads::run(3, [&](thread_communicator world) {
        const kv_cache<float> cache(world, {2, 1, 4, 4});
        const auto q = normal<float>({2, 3, 2, 4}, 1);
        decode attend{world, causal{}};
        const auto [out, lse] = attend.step(q, cache);
        for (index_t i = 0; i < out.shape().count(); ++i)
            if (out.data()[i] != 0) throw error("out is not 0");
        for (index_t i = 0; i < lse.shape().count(); ++i)
            if (lse.data()[i] != -std::numeric_limits<float>::infinity()) throw error("lse is not -inf");
    });
}

TEST_CASE("no queries, no sequences, one rank without threads, and a result without lse") {
    kv_cache<float> cache(self_communicator{}, {2, 1, 4, 4});
    cache.append(normal<float>({2, 5, 1, 4}, 1), normal<float>({2, 5, 1, 4}, 2));
    decode attend{causal{}, options{.lse = false}};
    CHECK(attend.step(tensor<float>({2, 0, 2, 4}), cache).out.shape() == extents{2, 0, 2, 4});
    const auto [out, lse] = attend.step(normal<float>({2, 2, 2, 4}, 3), cache);
    CHECK(out.shape() == extents{2, 2, 2, 4});
    CHECK(lse.shape() == extents{2, 0, 2, 1});
    const kv_cache<float> none(self_communicator{}, {0, 1, 4, 4});
    CHECK(decode{}.step(tensor<float>({0, 1, 2, 4}), none).out.shape() == extents{0, 1, 2, 4});
}

TEST_CASE("tokens that were speculated in vain are dropped, and others take their place") {
    for (const any_layout& layout : layouts)
        for (const int ranks : some_ranks) {
            constexpr index_t n = 33;
            const auto q = normal<float>({1, n, 2, 4}, 1), k = normal<float>({1, n, 1, 4}, 2),
                       v = normal<float>({1, n, 1, 4}, 3);
            const auto wrong = normal<float>({1, 9, 1, 4}, 4);
            threads::run(ranks, [&](thread_communicator world) {
                kv_cache<float, any_layout> cache(world, {1, 1, 4, 4}, layout);
                decode attend{world, causal{}};
                std::ostringstream trouble;
                for (index_t at = 0; at < n; at += 3) {
                    cache.append(k.view().rows(at, 3), v.view().rows(at, 3));
                    cache.append(wrong, wrong);
                    cache.truncate(0, at + 5);
                    cache.truncate(0, at + 3);
                    const auto step = attend.step(q.view().rows(at, 3), cache);
                    const any_score s = causal{};
                    const recomputation<float, any_score> all(q.view().rows(0, at + 3), k.view().rows(0, at + 3),
                                                              v.view().rows(0, at + 3), s, 0, world.size() + 1);
                    for (index_t i = 0; i < 3; ++i)
                        for (index_t h = 0; h < 2; ++h)
                            all.judge(at + i, h, &step.out(0, i, h), step.lse(0, i, h), trouble);
                }
                cache.truncate(0, 0);
                cache.append(k, v);
                if (!same_rows(cache.held_by(world.rank(), 0), layout.positions(world.rank(), world.size(), n)))
                    trouble << "a sequence that was emptied does not start anew";
                if (!trouble.str().empty()) throw error(trouble.str());
            });
        }
}

TEST_CASE("storage doubles, and nothing is allocated where room was reserved") {
    counted_memory grown, reserved;
    kv_cache<float> a(self_communicator{}, {1, 2, 4, 3}, {}, &grown),
        b(self_communicator{}, {1, 2, 4, 3}, {}, &reserved);
    b.reserve(300);
    const std::size_t row = 2 * (4 + 3) * sizeof(float), before = reserved.allocations();
    const auto k = normal<float>({1, 300, 2, 4}, 1), v = normal<float>({1, 300, 2, 3}, 2);
    for (index_t at = 0; at < 300; ++at)
        for (auto* cache : {&a, &b}) cache->append(k.view().rows(at, 1), v.view().rows(at, 1));
    CHECK(reserved.allocations() == before);
    CHECK(b.bytes() == 300 * row);
    CHECK(a.bytes() == 512 * row);
    CHECK(grown.allocations() == 2 * 10); // 1, 2, 4, ..., 512 rows of K and of V
    CHECK(grown.peak() == (512 + 256) * row);
    for (index_t at = 0; at < 300; ++at)
        for (index_t d = 0; d < 4; ++d) CHECK(a.k(0)(0, at, 1, d) == k(0, at, 1, d));
}
