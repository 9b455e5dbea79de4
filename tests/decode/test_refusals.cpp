/// Steps and caches that cannot be: refused on every rank with the same words before any payload, and nothing has changed.
#include <support/catch.hpp>
#include <support/random.hpp>
#include <support/refused.hpp>
#include <support/refused_on_ranks.hpp>

#include <seqpar/core/rows.hpp>
#include <seqpar/decode.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

/// A step as one rank asks for it: two sequences, of 5 and 2 tokens, and two queries each.
struct asked_step {
    cache_shape shape{2, 2, 4, 3};
    any_layout layout = striped{};
    any_score score = causal{};
    options how = {};
    std::vector<index_t> lengths{5, 2};
    bool at_once = true; // not a token at a time
    extents q{2, 2, 4, 4};
    std::uint64_t seed = 1; // of q
    std::vector<index_t> counts{2, 1};
    bool in_double = false;
    bool foreign_cache = false; // made with another group

    template <real_element T, communicator C>
    void take(const C& world) const {
        attend_and_step<T>(world, [&] {
            if (foreign_cache) return kv_cache<T, any_layout>(self_communicator{}, shape, layout);
            return kv_cache<T, any_layout>(world, shape, layout);
        }());
    }

private:
    template <real_element T, communicator C>
    void attend_and_step(const C& world, kv_cache<T, any_layout> cache) const {
        decode attend{world, score, how};
        const auto k = normal<T>({shape.batch, 5, shape.kv_heads, shape.dim}, 2),
                   v = normal<T>({shape.batch, 5, shape.kv_heads, shape.dim_v}, 3);
        if (at_once)
            cache.append(k, v, lengths);
        else
            for (index_t at = 0; at < 5; ++at) {
                std::vector<index_t> one;
                for (const index_t n : lengths) one.push_back(at < n ? 1 : 0);
                cache.append(k.view().rows(at, 1), v.view().rows(at, 1), one);
            }
        static_cast<void>(attend.step(normal<T>(q, seed), cache, counts));
    }
};

using change = std::function<void(asked_step&)>;

/// What all ranks are told where all differ by `all` from a step that is right, and rank 2 by `odd` from the others.
std::string refusal_of(const change& all, const change& odd = {}) {
    return refused_on_ranks([&](auto& comm, int rank) {
        asked_step step;
        if (all) all(step);
        if (odd && rank == 2) odd(step);
        if (step.in_double)
            step.template take<double>(comm);
        else
            step.template take<float>(comm);
    });
}

} // namespace

TEST_CASE("a step that is right is not refused") {
    CHECK(refusal_of({}).empty());
    CHECK(refusal_of([](asked_step& s) { s.at_once = false; }).empty());
    CHECK(refusal_of([](asked_step& s) { s.counts = {}; }).empty());
    CHECK(refusal_of([](asked_step& s) { s.in_double = true; }).empty());
}

TEST_CASE("what does not agree within a rank is refused on every rank") {
    const std::vector<std::pair<change, std::string>> wrong{
        {[](asked_step& s) { s.q.batch = 1; }, "batch of Q is 1 and of K is 2"},
        {[](asked_step& s) { s.q.dim = 8; }, "head_dim of Q is 8 and of K is 4"},
        {[](asked_step& s) { s.q.heads = 3; },
         "heads is 3 and kv_heads is 2: heads must be a positive multiple of kv_heads"},
        {[](asked_step& s) {
             s.counts = {1, 1, 1};
         },
         "3 counts for a batch of 2: allowed is one for each sequence"},
        {[](asked_step& s) {
             s.counts = {3, 1};
         },
         "sequence 0 has 3 queries, and Q has 2 rows: allowed are 0 to that"},
        {[](asked_step& s) {
             s.counts = {1, -1};
         },
         "sequence 1 has -1 queries, and Q has 2 rows: allowed are 0 to that"},
        {[](asked_step& s) {
             s.lengths = {5, 1}, s.counts = {2, 2};
         },
         "sequence 1 has 2 queries and 1 tokens: allowed are 0 to that; append the queries' own tokens before the "
         "step"},
        {[](asked_step& s) { s.how.scale = std::numeric_limits<double>::quiet_NaN(); },
         "scale is nan: it must be finite"},
        {[](asked_step& s) {
             s.score = sink(std::vector<double>{1, 2, 3});
         },
         "3 sinks"},
    };
    for (const auto& [how, said] : wrong) {
        const std::string everywhere = refusal_of(how);
        has(everywhere, said);
        CHECK(everywhere.find("rank") == std::string::npos);                // all are in the same trouble
        if (said.starts_with("scale") || said.ends_with("sinks")) continue; // differs from the other ranks, too
        CHECK(refusal_of({}, how) == "rank 2: " + everywhere);
    }
    has(refusal_of({}, [](asked_step& s) { s.foreign_cache = true; }),
        "rank 2: the cache is that of rank 0 of 1, and this is rank 2 of 4: make the cache with the communicator that "
        "decode is given");
}

TEST_CASE("what differs between ranks is refused on every rank, naming the rank") {
    const std::vector<std::pair<change, std::string>> different{
        {[](asked_step& s) { s.q.seq = 3; }, "rank 2 has 3 rows of Q and rank 0 has 2: all ranks must agree"},
        {[](asked_step& s) { s.q.heads = 8; }, "rank 2 has heads 8 and rank 0 has 4"},
        {[](asked_step& s) { s.shape.kv_heads = 4; }, "rank 2 has kv_heads 4 and rank 0 has 2"},
        {[](asked_step& s) { s.shape.dim_v = 5; }, "rank 2 has head_dim of V 5 and rank 0 has 3"},
        {[](asked_step& s) { s.seed = 9; }, "rank 2 has another Q than rank 0: every rank must bring the same one"},
        {[](asked_step& s) {
             s.counts = {1, 1};
         },
         "rank 2 has another Q than rank 0"},
        {[](asked_step& s) {
             s.lengths = {4, 2};
         },
         "rank 2 has cached sequences of 4, 2 tokens and rank 0 of 5, 2: every rank must append the same chunks"},
        {[](asked_step& s) { s.at_once = false; }, "rank 2 has changed its cache otherwise than rank 0: every rank "
                                                   "must append the same chunks in the same order"},
        {[](asked_step& s) { s.layout = zigzag{}; }, "zigzag and rank 0 has "},
        {[](asked_step& s) { s.in_double = true; }, "rank 2 has element type double and rank 0 has float"},
        // These differ before there is a cache.
        {[](asked_step& s) {
             s.score = sliding_window{3, 0};
         },
         "rank 2 has scheme decode, sliding_window"},
        {[](asked_step& s) { s.how.lse = false; }, "rank 2 has lse wanted 0 and rank 0 has 1"},
        {[](asked_step& s) { s.how.check = check_level::own_rank; }, "options::check"},
    };
    for (const auto& [how, said] : different) has(refusal_of({}, how), said);
}

TEST_CASE("after a refusal the next step is as if nothing had been") {
    threads::run(4, [](thread_communicator world) {
        const auto q = normal<float>({1, 1, 4, 4}, 1), k = normal<float>({1, 9, 2, 4}, 2),
                   v = normal<float>({1, 9, 2, 4}, 3);
        kv_cache<float> cache(world, {1, 2, 4, 4});
        cache.append(k, v);
        decode attend{world, causal{}}, fresh{world, causal{}};
        const auto own = normal<float>(q.shape(), world.rank() == 1 ? 7 : 1);
        if (refused([&] { static_cast<void>(attend.step(own, cache)); }).find("rank 1 has another Q") ==
            std::string::npos)
            throw error("another Q is not refused");
        const auto have = attend.step(q, cache), want = fresh.step(q, cache);
        for (index_t i = 0; i < want.out.shape().count(); ++i)
            if (have.out.data()[i] != want.out.data()[i] || want.out.data()[i] == 0) throw error("the results differ");
        // Ranks are compared once, and again where that is asked for; a rank looks at its own call in every step.
        const std::vector<index_t> three{3};
        if (refused([&] { static_cast<void>(attend.step(q, cache, three)); }).empty())
            throw error("a rank's own trouble is not refused in a later step");
        attend.check_all_ranks();
        if (refused([&] { static_cast<void>(attend.step(own, cache)); }).empty())
            throw error("ranks are not compared again");
    });
}

TEST_CASE("what does not fit a cache is refused, and leaves it as it was") {
    kv_cache<float> cache(self_communicator{}, {2, 2, 4, 3});
    const auto k = normal<float>({2, 5, 2, 4}, 1), v = normal<float>({2, 5, 2, 3}, 2);
    cache.append(k, v, std::vector<index_t>{5, 2});
    const auto history = cache.history();
    const std::size_t bytes = cache.bytes();
    const std::vector<index_t> one_each{1, 1};
    for (const bool own : {false, true}) {
        const auto refusal_of_append = [&](const extents& ke, const extents& ve, std::vector<index_t> counts) {
            return refused([&] {
                const auto ks = normal<float>(ke, 3), vs = normal<float>(ve, 4);
                if (own)
                    cache.append_own(ks, vs, counts);
                else
                    cache.append(ks, vs, counts);
            });
        };
        CHECK(refusal_of_append({1, 1, 2, 4}, {2, 1, 2, 3}, one_each) ==
              "K to append is [batch 1, seq 1, heads 2, head_dim 4]: it must be [batch 2, seq 1, heads 2, head_dim 4]");
        CHECK(refusal_of_append({2, 1, 2, 4}, {2, 1, 2, 4}, one_each) ==
              "V to append is [batch 2, seq 1, heads 2, head_dim 4]: it must be [batch 2, seq 1, heads 2, head_dim 3]");
        CHECK(refusal_of_append({2, 2, 2, 4}, {2, 1, 2, 3}, one_each) ==
              "V to append is [batch 2, seq 1, heads 2, head_dim 3]: it must be [batch 2, seq 2, heads 2, head_dim 3]");
        CHECK(refusal_of_append({2, 1, 2, 4}, {2, 1, 2, 3}, {1}) ==
              "1 counts for a batch of 2: allowed is one for each sequence");
        CHECK(refusal_of_append({2, 1, 2, 4}, {2, 1, 2, 3}, {1, -1}) ==
              "sequence 1 is to get -1 tokens: at least 0 is allowed");
        CHECK(refusal_of_append({2, 3, 2, 4}, {2, 3, 2, 3}, {3, 4}) ==
              "sequence 1 is to get 4 rows on rank 0, and K and V have 3: allowed are 0 to that");
    }
    for (const index_t b : {-1, 2}) {
        const std::string said = "sequence " + std::to_string(b) + " of a cache of 2 sequences: allowed are 0 to 1";
        CHECK(refused([&] { cache.truncate(b, 0); }) == said);
        CHECK(refused([&] { static_cast<void>(cache.length(b)); }) == said);
        CHECK(refused([&] { static_cast<void>(cache.share(b, 1)); }) == said);
        CHECK(refused([&] { static_cast<void>(cache.k(b)); }) == said);
    }
    CHECK(refused([&] { cache.truncate(1, 3); }) == "truncate to 3 tokens: the sequence has 2, allowed are 0 to that");
    CHECK(refused([&] { cache.truncate(0, -1); }) ==
          "truncate to -1 tokens: the sequence has 5, allowed are 0 to that");
    CHECK(refused([&] { static_cast<void>(cache.share(0, -2)); }) == "the share of -2 tokens: at least 0 is allowed");
    CHECK(cache.history() == history);
    CHECK(cache.bytes() == bytes);
    CHECK(cache.length(0) == 5);
    CHECK(cache.length(1) == 2);
    CHECK(cache.v(1)(0, 1, 1, 2) == v(1, 1, 1, 2));
}

TEST_CASE("a cache of no size is refused") {
    const auto told = [](const cache_shape& s) {
        return refused([&] { const kv_cache<float> cache(self_communicator{}, s); });
    };
    CHECK(told({0, 1, 1, 1}).empty());
    CHECK(told({-1, 2, 4, 3}) ==
          "a cache of batch -1, kv_heads 2, head_dim 4 of K and 3 of V: batch must be at least 0, "
          "the others at least 1");
    for (const cache_shape& s : {cache_shape{1, 0, 4, 3}, cache_shape{1, 2, 0, 3}, cache_shape{1, 2, 4, 0}})
        has(told(s), "the others at least 1");
}

TEST_CASE("what a rank would refuse costs nothing that could be told") {
    kv_cache<float> cache(self_communicator{}, {2, 2, 4, 3});
    cache.append(normal<float>({2, 5, 2, 4}, 1), normal<float>({2, 5, 2, 3}, 2));
    const decode attend{causal{}};
    CHECK(attend.predict(cache, 4, 2).memory > 0);
    CHECK(refused([&] { static_cast<void>(attend.predict(cache, 3, 2)); }) ==
          "heads is 3 and kv_heads is 2: heads must be a positive multiple of kv_heads");
    CHECK(refused([&] { static_cast<void>(attend.predict(cache, 4, 2, std::vector<index_t>{1})); }) ==
          "1 counts for a batch of 2: allowed is one for each sequence");
    CHECK(
        refused([&] { static_cast<void>(attend.predict(cache, 4, 6)); }) ==
        "sequence 0 has 6 queries and 5 tokens: allowed are 0 to that; append the queries' own tokens before the step");
}
