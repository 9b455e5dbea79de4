/// All-gather, forward: every pattern, gathered and streamed, over the product of layouts, scores and shapes; whole blocks
/// give serial's bits; what is fetched is what is seen.
#include <support/catch.hpp>

#include "all_gather_variants.hpp"
#include "thread_product.hpp"

#include <seqpar/score/documents.hpp>

#include <algorithm>
#include <bit>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

const std::vector<int> rank_counts{1, 2, 3, 4, 5, 7, 8};

void check_all(thread_product product) {
    for (const int p : rank_counts)
        for (const all_gather& how : all_gathers())
            product.check(p, how, small_shapes(),
                          p == 1 || (how.pattern != exchange_pattern::direct && how.stream == 0));
    for (const all_gather& how : all_gathers())
        product.check(4, how, tiled_shapes(), how.pattern != exchange_pattern::direct && how.stream == 0);
    product.check<bfloat16>(5, all_gather{2, exchange_pattern::doubling}, small_shapes(), false);
    product.check<double>(3, all_gather{}, small_shapes(), false);
}

using counts = std::vector<traffic>;

/// What each rank sends in one forward of that shape, in float.
counts sent_by_ranks(int ranks, const all_gather& how, const any_layout& layout, const any_score& score,
                     const attention_shape& s) {
    counts all(static_cast<std::size_t>(ranks));
    const auto q = normal<float>({s.batch, s.queries, s.heads, s.dim}, 1),
               k = normal<float>({s.batch, s.keys, s.kv_heads, s.dim}, 2),
               v = normal<float>({s.batch, s.keys, s.kv_heads, s.dim_v}, 3);
    threads::run(ranks, [&](thread_communicator world) {
        const auto counted = std::make_shared<meter>();
        const int rank = world.rank();
        const positions rows = layout.positions(rank, ranks, s.queries), keys = layout.positions(rank, ranks, s.keys);
        attention attend{metered<thread_communicator>(world, counted), how, layout, score};
        counted->reset();
        static_cast<void>(attend.forward(local_rows(q, rows), local_rows(k, keys), local_rows(v, keys)));
        all[static_cast<std::size_t>(rank)] = counted->payload();
    });
    return all;
}

/// Keys of rank `of` that some query of rank `by` sees, one pair after the other.
index_t keys_seen(const any_layout& layout, const any_score& score, int ranks, int by, int of, lengths n) {
    const positions rows = layout.positions(by, ranks, n.queries), keys = layout.positions(of, ranks, n.keys);
    index_t count = 0;
    for (index_t j = 0; j < keys.size(); ++j) {
        bool seen = false;
        for (index_t i = 0; i < rows.size(); ++i) seen |= !score.visible(n, rows[i], run{keys[j], 1, 1}).empty();
        count += seen;
    }
    return count;
}

} // namespace

TEST_CASE("all-gather, a part of the product") { check_all({101}); }
TEST_CASE("all-gather, the full product", "[slow]") { check_all({1}); }

TEST_CASE("all-gather, gathered: the bits of serial where all is seen") {
    for (const int p : rank_counts)
        for (const attention_shape& shape : small_shapes())
            CHECK(said_by_ranks(p, [&](thread_communicator world) {
                      return trouble_with<float>(
                          world, all_gather{}, flash{},
                          scheme_case{shape, any_layout(zigzag{}), any_score(full{}), true, true});
                  }) == "");
}

TEST_CASE("all-gather has the names of its patterns") {
    CHECK(all_gather{}.name() == "all-gather");
    CHECK(all_gather{2}.name() == "all-gather:stream=2");
    CHECK(all_gather{0, exchange_pattern::ring}.name() == "all-gather:ring");
    CHECK(all_gather{3, exchange_pattern::doubling}.name() == "all-gather:doubling:stream=3");
}

TEST_CASE("rounds of a gather and of a stream, for even shards") {
    constexpr std::size_t n = 6, k = 2 * 8, e = sizeof(float);
    for (const int p : rank_counts)
        for (const all_gather& how : all_gathers()) {
            const auto rows = static_cast<index_t>(n) * p;
            const std::size_t m = static_cast<std::size_t>(p) - 1, c = static_cast<std::size_t>(how.stream);
            const std::size_t gather =
                how.pattern == exchange_pattern::doubling ? static_cast<std::size_t>(std::bit_width(m)) : m;
            for (const traffic& sent : sent_by_ranks(p, how, striped{}, full{}, {1, rows, rows, 4, 2, 8, 8})) {
                CAPTURE(how.name(), p);
                CHECK(static_cast<std::size_t>(sent.bytes) == 2 * n * k * m * e);
                CHECK(static_cast<std::size_t>(sent.rounds) == gather + (c == 0 ? 0 : (m + c - 1) / c));
                CHECK(static_cast<std::size_t>(sent.messages) == gather + (c == 0 ? 0 : m));
            }
        }
}

TEST_CASE("only rows that are seen are fetched, and nothing by who sees nothing") {
    const attention_shape s{2, 61, 47, 4, 2, 8, 6};
    const lengths n{s.queries, s.keys};
    const std::vector<any_score> scores{full{}, causal{}, sliding_window{9, 4}, causal{} & sliding_window{5, 0},
                                        causal{} & documents<>({0, 11, 11, 40, 55}, {0, 9, 20, 31, 40})};
    for (const int p : {2, 3, 5, 8})
        for (const any_layout& layout : all_layouts())
            for (const any_score& score : scores)
                for (const int stream : {0, 2}) {
                    const counts sent = sent_by_ranks(p, all_gather{stream}, layout, score, s);
                    for (int rank = 0; rank < p; ++rank) {
                        index_t rows = 0, messages = 0;
                        for (int to = 0; to < p; ++to) {
                            if (to == rank) continue;
                            const index_t seen = keys_seen(layout, score, p, to, rank, n);
                            rows += seen;
                            messages += seen > 0;
                        }
                        CAPTURE(p, layout.name(), score.name(), rank, stream);
                        const traffic& of = sent[static_cast<std::size_t>(rank)];
                        CHECK(of.bytes == rows * s.batch * s.kv_heads * (s.dim + s.dim_v) * 4);
                        CHECK(of.messages == messages * (stream == 0 ? 1 : 2));
                    }
                }
}

TEST_CASE("a window is fetched from the neighbour alone") {
    // 8 ranks, 16 rows each: a query sees the 5 keys before its own, so 5 rows of the rank before
    const counts sent =
        sent_by_ranks(8, all_gather{}, contiguous{}, causal{} & sliding_window{5, 0}, {1, 128, 128, 4, 2, 8, 8});
    for (std::size_t rank = 0; rank < 8; ++rank) {
        CHECK(sent[rank].messages == (rank == 7 ? 0 : 1));
        CHECK(sent[rank].bytes == (rank == 7 ? 0 : 5 * 2 * 2 * 8 * 4));
    }
}

TEST_CASE("packed documents, any pattern") {
    const any_score packed(causal{alignment::bottom_right()} & documents<>({0, 5, 5, 18, 31}, {0, 9, 12, 20, 37}));
    int next = 0;
    for (const int p : {3, 4, 7})
        for (const any_layout& layout : all_layouts())
            for (const all_gather& how : all_gathers())
                if (next++ % 2 == 0)
                    CHECK(said_by_ranks(p, [&](thread_communicator world) {
                              return trouble_with<float>(
                                  world, how, flash{},
                                  scheme_case{{2, 37, 37, 6, 3, 16, 5}, layout, packed, true, false});
                          }) == "");
}
