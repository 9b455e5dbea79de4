/// Packed sequences: documents see what their definition says, alone and composed, and every strategy computes them.
#include <support/catch.hpp>
#include <support/refused.hpp>

#include <strategy/product.hpp>
#include <support/naive.hpp>

#include <seqpar/comm/threads.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/seqpar.hpp>

#include <functional>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

using boundaries = std::vector<index_t>;
using predicate = std::function<bool(lengths, index_t, index_t)>;

struct inside {
    any_score score;
    predicate sees; ///< from the definition, in the positions of a document
};

std::vector<inside> insides() {
    const auto bottom_right = alignment::bottom_right();
    const auto in = [](index_t p, index_t j, index_t left, index_t right) {
        return (left < 0 || j >= p - left) && (right < 0 || j <= p + right);
    };
    return {
        {full{}, [](lengths, index_t, index_t) { return true; }},
        {causal{}, [](lengths, index_t i, index_t j) { return j <= i; }},
        {causal{bottom_right}, [](lengths n, index_t i, index_t j) { return j <= i + n.keys - n.queries; }},
        {causal{alignment::at(-4)}, [](lengths, index_t i, index_t j) { return j <= i - 4; }},
        {causal{alignment::at(3)}, [](lengths, index_t i, index_t j) { return j <= i + 3; }},
        {sliding_window{3, 2}, [=](lengths, index_t i, index_t j) { return in(i, j, 3, 2); }},
        {sliding_window{0, 0, bottom_right},
         [=](lengths n, index_t i, index_t j) { return in(i + n.keys - n.queries, j, 0, 0); }},
        {sliding_window{5, -1}, [=](lengths, index_t i, index_t j) { return in(i, j, 5, -1); }},
        {causal{} & sliding_window{4, 9}, [=](lengths, index_t i, index_t j) { return j <= i && in(i, j, 4, 9); }},
    };
}

struct packing {
    lengths n;
    boundaries q, k;
};

std::vector<packing> packings() {
    return {
        {{23, 29}, {0, 23}, {0, 29}},                                 // one document
        {{23, 29}, {0, 5, 5, 14, 23}, {0, 9, 13, 13, 29}},            // without queries, without keys
        {{23, 29}, {0, 0, 0, 6, 7, 20, 20}, {0, 0, 3, 3, 8, 25, 25}}, // empty ones on all sides, padding
        {{23, 29}, {0, 1, 2, 3, 4, 5, 6}, {0, 4, 5, 9, 11, 20, 22}},  // single queries
        {{23, 29}, {0}, {0}},                                         // no document: all is padding
        {{23, 29}, {0, 0, 0}, {0, 0, 0}},
        {{23, 23}, {0, 7, 7, 8, 15, 21}, {0, 7, 7, 8, 15, 21}}, // self-attention
    };
}

/// The definition: in the same document, and seen inside it.
bool sees(const packing& p, const predicate& inside, index_t i, index_t j) {
    for (std::size_t d = 0; d + 1 < p.q.size(); ++d)
        if (i >= p.q[d] && i < p.q[d + 1])
            return j >= p.k[d] && j < p.k[d + 1] &&
                   inside({p.q[d + 1] - p.q[d], p.k[d + 1] - p.k[d]}, i - p.q[d], j - p.k[d]);
    return false;
}

} // namespace

TEST_CASE("documents see what their definition says, in every run of keys, and cover tiles exactly") {
    for (const packing& p : packings())
        for (const inside& in : insides()) {
            const any_score s = in.score & any_score(documents{p.q, p.k});
            INFO(s.name());
            const index_t nk = p.n.keys;
            const std::vector<run> runs{{position(0), 1, nk},     {position(3), 4, 5},  {position(6), 1, 9},
                                        {position(nk - 1), 1, 1}, {position(1), 19, 2}, {position(2), 3, 7}};
            bool exact = true, kept = true, tight = true;
            for (const run& keys : runs)
                for (index_t first = 0; first < p.n.queries; ++first)
                    for (index_t last = first; last < p.n.queries; last += 2) {
                        index_t seen = 0, pairs = 0;
                        for (index_t i = first; i <= last; ++i) {
                            const interval got = s.visible(p.n, position(i), keys);
                            for (index_t item = 0; item < keys.count; ++item, ++pairs) {
                                const bool expected = sees(p, in.sees, i, keys[item].value);
                                exact = exact && (item >= got.first && item < got.last) == expected;
                                seen += expected;
                            }
                        }
                        const coverage c = s.cover(p.n, {position(first), position(last)}, keys.range());
                        kept = kept && (c != coverage::none || seen == 0) && (c != coverage::full || seen == pairs);
                        if (keys.stride == 1 && in.score.name().find('&') == std::string::npos)
                            tight = tight && (c == coverage::none) == (seen == 0) &&
                                    (c == coverage::full) == (seen == pairs);
                    }
            CHECK(exact);
            CHECK(kept);
            CHECK(tight);
        }
}

TEST_CASE("what documents are composed with is asked inside them, on either side, at compile time and at run time") {
    const documents d{boundaries{0, 5, 5, 14, 20}};
    const auto right = d & causal{} & sliding_window{2, -1}, left = causal{} & sliding_window{2, -1} & d;
    static_assert(std::is_same_v<decltype(right), const documents<both<causal, sliding_window>>>);
    static_assert(std::is_same_v<decltype(left), const documents<both<causal, sliding_window>>>);
    const std::vector<any_score> same{right,
                                      left,
                                      causal{} & d & sliding_window{2, -1},
                                      any_score(d) & causal{} & sliding_window{2, -1},
                                      any_score(causal{}) & d & any_score(sliding_window{2, -1}),
                                      any_score(causal{}) & sliding_window{2, -1} & any_score(d),
                                      any_score(causal{} & d) & sliding_window{2, -1},
                                      causal{} & (any_score(sliding_window{2, -1}) & d)};
    const run keys{position(0), 1, 20};
    for (const any_score& s : same) {
        CHECK(s.is_frame());
        CHECK(s.name() == right.name());
        CHECK_NOTHROW(s.check());
        for (index_t i = 0; i < 20; ++i) {
            const interval got = s.visible({20, 20}, position(i), keys),
                           want = right.visible({20, 20}, position(i), keys);
            CHECK(got.first == want.first);
            CHECK(got.last == want.last);
        }
    }
    // the third document begins at 5: its row 3 is at position 8
    CHECK(right.visible({20, 20}, position(8), keys).first == 6);
    CHECK(right.visible({20, 20}, position(8), keys).last == 9);
    CHECK_FALSE(any_score(causal{}).is_frame());
}

TEST_CASE("a document knows where it lies in the whole") {
    const document_table table(boundaries{0, 5, 5, 14}, boundaries{0, 9, 13, 15});
    CHECK(table.count() == 3);
    CHECK(table.seen().size() == 2);
    CHECK(table.with_queries({position(5), position(5)}).front().frame() == lengths{9, 2, position(5), position(13)});
    CHECK(table.with_queries({position(4), position(5)}).size() == 2);
    CHECK(table.with_queries({position(14), position(99)}).empty());
}

TEST_CASE("boundaries that make no sense are refused with their value") {
    const auto message = [](boundaries q, boundaries k) {
        return refused([&] { any_score(documents{q, k}).check(); });
    };
    CHECK(message({0, 4, 9}, {0, 0, 7}) == "");
    CHECK(message({}, {0}).find("cu_seqlens of Q is empty") != std::string::npos);
    CHECK(message({0}, {3, 4}).find("cu_seqlens of K begins with 3") != std::string::npos);
    CHECK(message({0, 4, 9}, {0, 8, 7}).find("falls from 8 to 7 at entry 2") != std::string::npos);
    CHECK(message({0, 4, 9}, {0, 9}).find("2 documents for Q and 1 for K") != std::string::npos);
    CHECK(refused([] { (documents{boundaries{1, 2}} & causal{}).check(); }).find("begins with 1") != std::string::npos);
    CHECK(refused([] {
              (documents{boundaries{0, 2}} & sliding_window{-3, 0}).check();
          }).find("-3") != std::string::npos);

    const any_score ends = any_score(causal{}) & documents{boundaries{0, 4, 9}, boundaries{0, 3, 11}};
    CHECK_NOTHROW(ends.check(attention_shape{1, 9, 11, 1, 1, 1, 1}));
    CHECK_NOTHROW(ends.check(attention_shape{1, 20, 12, 1, 1, 1, 1}));
    CHECK(refused([&] {
              ends.check(attention_shape{1, 8, 11, 1, 1, 1, 1});
          }) == "cu_seqlens of Q ends at 9, and Q has 8 rows: allowed is an end of at most 8");
    CHECK(refused([&] {
              ends.check(attention_shape{1, 9, 10, 1, 1, 1, 1});
          }).find("of K ends at 11") != std::string::npos);

    const any_score twice = any_score(documents{boundaries{0, 4}}) & any_score(documents{boundaries{0, 2, 4}});
    CHECK(refused([&] { twice.check(); }).find("documents inside documents") != std::string::npos);
    const auto half_erased = documents{boundaries{0, 4}} & any_score(documents{boundaries{0, 2, 4}} & causal{});
    CHECK(refused([&] { half_erased.check(); }).find("documents inside documents") != std::string::npos);
}

TEST_CASE("names tell documents apart") {
    std::vector<std::string> names;
    for (const packing& p : packings())
        for (const inside& in : insides()) names.push_back((any_score(documents{p.q, p.k}) & in.score).name());
    // the same sizes and ends
    names.push_back(documents(boundaries{0, 4, 9}).name());
    names.push_back(documents(boundaries{0, 5, 9}).name());
    names.push_back(documents(boundaries{0, 5, 9}, boundaries{0, 4, 9}).name());
    names.push_back(documents(boundaries{0, 4, 9}, boundaries{0, 5, 9}).name());
    std::sort(names.begin(), names.end());
    CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
    CHECK(documents(boundaries{0, 4, 9}).name() == documents(boundaries{0, 4, 9}, boundaries{0, 4, 9}).name());
}

TEST_CASE("packed attention is the attention of each document, and documents may change places") {
    constexpr index_t heads = 4, kv_heads = 2, dim = 16, dim_v = 9;
    const std::vector<lengths> sizes{{40, 70}, {0, 11}, {97, 33}, {13, 0}, {0, 0}, {1, 1}, {60, 60}};
    const index_t padding = 7;
    std::vector<std::size_t> order(sizes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::mt19937 bits(5);
    for (int turn = 0; turn < 4; ++turn) {
        boundaries cu_q{0}, cu_k{0};
        for (const std::size_t d : order) {
            cu_q.push_back(cu_q.back() + sizes[d].queries);
            cu_k.push_back(cu_k.back() + sizes[d].keys);
        }
        const index_t nq = cu_q.back() + padding, nk = cu_k.back() + padding;
        tensor<double> q = normal<double>({1, nq, heads, dim}, 1), k = normal<double>({1, nk, kv_heads, dim}, 2),
                       v = normal<double>({1, nk, kv_heads, dim_v}, 3);
        // each document brings its own rows along, wherever it lies
        for (std::size_t place = 0; place < order.size(); ++place) {
            const std::size_t d = order[place];
            const auto fill = [&](tensor<double>& into, index_t first, index_t rows, std::uint64_t seed) {
                const extents e{1, rows, into.shape().heads, into.shape().dim};
                const tensor<double> own = normal<double>(e, seed);
                copy(own.view(), into.view().rows(first, rows));
            };
            fill(q, cu_q[place], sizes[d].queries, 100 + d);
            fill(k, cu_k[place], sizes[d].keys, 200 + d);
            fill(v, cu_k[place], sizes[d].keys, 300 + d);
        }
        const auto score = causal{alignment::bottom_right()} & documents{cu_q, cu_k};
        attention attend{score, span_backend<double>{}};
        const auto result = attend.forward(q, k, v);
        const tensor<double>&out = result.out, &lse = result.lse;
        double worst = 0;
        for (std::size_t place = 0; place < order.size(); ++place) {
            const lengths n = sizes[order[place]];
            const auto part = [&](const tensor<double>& t, index_t first, index_t rows) {
                return t.view().rows(first, rows);
            };
            const naive_result alone = naive_attention<double>(
                part(q, cu_q[place], n.queries), part(k, cu_k[place], n.keys), part(v, cu_k[place], n.keys), 0.25,
                [&](index_t i, index_t j) { return j <= i + n.keys - n.queries; });
            for (index_t i = 0, at = 0, row = 0; i < n.queries; ++i)
                for (index_t h = 0; h < heads; ++h, ++row) {
                    const double want = static_cast<double>(alone.lse[static_cast<std::size_t>(row)]);
                    const double have = lse(0, cu_q[place] + i, h);
                    if (std::isinf(want))
                        CHECK(have == want);
                    else
                        worst = std::max(worst, std::abs(have - want));
                    for (index_t c = 0; c < dim_v; ++c, ++at)
                        worst = std::max(worst, std::abs(out(0, cu_q[place] + i, h, c) -
                                                         static_cast<double>(alone.out[static_cast<std::size_t>(at)])));
                }
        }
        CHECK(worst < 1e-13);
        for (index_t i = nq - padding; i < nq; ++i)
            for (index_t h = 0; h < heads; ++h) {
                CHECK(std::isinf(lse(0, i, h)));
                for (index_t c = 0; c < dim_v; ++c) CHECK(out(0, i, h, c) == 0);
            }
        std::shuffle(order.begin(), order.end(), bits);
    }
}

TEST_CASE("documents under every strategy, layout and inner score, on uneven shards") {
    const attention_shape self{1, 101, 101, 4, 2, 8, 5}, cross{2, 83, 131, 3, 3, 4, 4}, tiny{1, 3, 3, 2, 1, 8, 8};
    struct packed {
        attention_shape shape;
        documents<> where;
    };
    const std::vector<packed> inputs{
        {self, documents{boundaries{0, 17, 17, 18, 64, 95}}},
        {self, documents{boundaries{0, 101}}},
        {cross, documents{boundaries{0, 0, 30, 44, 44, 80}, boundaries{0, 9, 30, 30, 99, 131}}},
        {tiny, documents{boundaries{0, 1, 3}}},
    };
    const auto check = [&](int ranks, const auto& strategy, bool bitwise, int every) {
        int next = 0;
        for (const packed& input : inputs)
            for (const any_layout& layout : all_layouts())
                for (const inside& in : insides()) {
                    if (next++ % every != 0) continue;
                    std::string trouble;
                    std::mutex mutex;
                    threads::run(ranks, [&](thread_communicator world) {
                        const std::string mine = trouble_with<float>(
                            world, strategy, flash{},
                            scheme_case{input.shape, layout, in.score & any_score(input.where), true, bitwise});
                        const std::lock_guard lock(mutex);
                        trouble += mine;
                    });
                    CHECK(trouble == "");
                }
    };
    for (const int ranks : {2, 3, 4, 7}) {
        check(ranks, ring{}, false, 2);
        check(ranks, ulysses<>{}, true, 5);
        check(ranks, all_gather{0, exchange_pattern::doubling}, true, 5);
        check(ranks, all_gather{}, false, 5);
    }
    check(3, all_gather{2}, false, 5);
    check(4, ulysses<ring>{2, {}}, false, 5);
}
