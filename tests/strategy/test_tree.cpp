/// Tree on threads: held to all that tests/strategy/test_strategies.cpp holds the other strategies to.
#include <support/catch.hpp>

#include "thread_product.hpp"
#include <support/naive.hpp>

#include <seqpar/comm/threads.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/strategy/any_strategy.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <mutex>
#include <string>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct product : thread_product {
    void all() {
        for (const int p : {1, 2, 3, 4, 7}) check(p, tree{}, small_shapes(), p == 1);
        check(4, tree{}, tiled_shapes(), false);
        check(3, tree{}, tiled_shapes(), false);
        check(4, ulysses<tree>{2, {}}, small_shapes(), false);
        check(6, ulysses<tree>{3, {}}, small_shapes(), false);
        check(6, ulysses<tree>{2, {}}, tiled_shapes(), false);
        check(8, ulysses<ulysses<tree>>{2, {2, {}}}, small_shapes(), false);

        check<double>(3, tree{}, small_shapes(), false);
        check<double>(4, ulysses<tree>{2, {}}, small_shapes(), false);
        check<bfloat16>(3, tree{}, small_shapes(), false);
        check<bfloat16>(4, tree{}, tiled_shapes(), false);
        check<double>(3, tree{}, small_shapes(), false, reference{});
        check<float>(3, tree{}, small_shapes(), false, reference{});
    }
};

} // namespace

TEST_CASE("tree, a seventeenth of the product") { product{{17}}.all(); }
TEST_CASE("tree, the full product", "[slow]") { product{{1}}.all(); }

TEST_CASE("rounds are those of the formula, as integers") {
    for (const attention_shape& s : small_shapes())
        for (const any_layout& layout : all_layouts())
            threads::run(4, [&](thread_communicator world) {
                const auto counted = std::make_shared<meter>();
                const positions rows = layout.positions(world.rank(), 4, s.queries),
                                keys = layout.positions(world.rank(), 4, s.keys);
                attention attend{metered<thread_communicator>(world, counted), tree{}, layout};
                const tensor<float> q({s.batch, rows.size(), s.heads, s.dim}),
                    k({s.batch, keys.size(), s.kv_heads, s.dim}), v({s.batch, keys.size(), s.kv_heads, s.dim_v});
                counted->reset();
                static_cast<void>(attend.forward(q, k, v));
                const auto seen = static_cast<std::size_t>(counted->payload().rounds),
                           told = attend.predict(s, world.rank()).rounds;
                static std::mutex mutex;
                const std::lock_guard lock(mutex);
                CHECK(seen == told);
                CHECK((told == 6 || s.queries < 4 || s.keys < 4));
            });
}

TEST_CASE("the same queries on every rank: an all-reduce, the same bits everywhere, at the predicted cost") {
    constexpr index_t heads = 6, kv_heads = 2, dim = 16, dim_v = 12, batch = 2;
    for (const int ranks : {1, 2, 3, 4, 5, 6, 7, 8})
        for (const index_t nq : std::vector<index_t>{0, 1, 5})
            for (const index_t nk : std::vector<index_t>{3, 67}) {
                const tensor<float> q = normal<float>({batch, nq, heads, dim}, 1),
                                    k = normal<float>({batch, nk, kv_heads, dim}, 2),
                                    v = normal<float>({batch, nk, kv_heads, dim_v}, 3);
                const lengths n{nq, nk};
                const causal score{alignment::bottom_right()};
                std::vector<placement> where;
                for (int r = 0; r < ranks; ++r)
                    where.push_back(
                        {{positions::whole(nq), {0, heads}}, {striped{}.positions(r, ranks, nk), {0, kv_heads}}});
                const naive_result want =
                    naive_attention<float>(q.view(), k.view(), v.view(), 0.25,
                                           [&](index_t i, index_t j) { return j <= i + n.keys - n.queries; });
                std::vector<tensor<float>> outs(static_cast<std::size_t>(ranks)), lses(static_cast<std::size_t>(ranks));
                threads::run(ranks, [&](thread_communicator world) {
                    const std::size_t me = static_cast<std::size_t>(world.rank());
                    const auto counted = std::make_shared<meter>();
                    metered<thread_communicator> comm(world, counted);
                    auto bound = tree{}.on(comm);
                    counted->reset();
                    tensor<float> out({batch, nq, heads, dim_v}), lse({batch, nq, heads, 1});
                    const tensor<float> my_k = local_rows(k, where[me].keys.rows),
                                        my_v = local_rows(v, where[me].keys.rows);
                    counted_memory memory;
                    const context how{0.25, n, heads / kv_heads, {}, &memory, nullptr, {}};
                    bound.forward<float>(local_attention<flash, causal>{{}, score, how},
                                         std::span<const placement>(where),
                                         operands<float>{q.view(), my_k.view(), my_v.view(), out.view(), lse.view()});
                    const auto scratch = [](const extents& qs, const extents& vs, std::span<const positions> keys) {
                        return flash{}.workspace_bytes<float>(qs, vs, keys, 1);
                    };
                    const plan::cost told = tree{}.predict({.batch = batch,
                                                            .dim = dim,
                                                            .dim_v = dim_v,
                                                            .group = heads / kv_heads,
                                                            .where = where,
                                                            .kernel_bytes = scratch},
                                                           world.rank());
                    static std::mutex mutex;
                    const std::lock_guard lock(mutex);
                    CHECK(static_cast<std::size_t>(counted->payload().bytes) == told.bytes);
                    CHECK(static_cast<std::size_t>(counted->payload().messages) == told.messages);
                    CHECK(static_cast<std::size_t>(counted->payload().rounds) == told.rounds);
                    CHECK(memory.peak() == told.memory);
                    CHECK(memory.held() == 0);
                    outs[me] = std::move(out), lses[me] = std::move(lse);
                });
                double worst = 0;
                bool same = true;
                for (index_t i = 0; i < outs[0].shape().count(); ++i) {
                    worst = std::max(worst, std::abs(static_cast<double>(outs[0].data()[i]) -
                                                     static_cast<double>(want.out[static_cast<std::size_t>(i)])));
                    for (const tensor<float>& o : outs) same = same && o.data()[i] == outs[0].data()[i];
                }
                for (index_t i = 0; i < lses[0].shape().count(); ++i) {
                    const double have = lses[0].data()[i],
                                 lse = static_cast<double>(want.lse[static_cast<std::size_t>(i)]);
                    if (have != lse) worst = std::max(worst, std::abs(have - lse)); // both may be -inf
                    for (const tensor<float>& l : lses) same = same && l.data()[i] == lses[0].data()[i];
                }
                CHECK(worst < 2e-6);
                CHECK(same);
            }
}

TEST_CASE("a row's bits depend on how the keys lie over the ranks, not on which rank holds the row") {
    // Twice the same queries, so the second half of them lives on other ranks.
    const attention_shape s{1, 60, 91, 4, 2, 16, 8};
    const tensor<float> half = normal<float>({1, 30, s.heads, s.dim}, 1), k = normal<float>({1, s.keys, 2, s.dim}, 2),
                        v = normal<float>({1, s.keys, 2, s.dim_v}, 3);
    tensor<float> q({1, 60, s.heads, s.dim});
    copy(half.view(), q.view().rows(0, 30));
    copy(half.view(), q.view().rows(30, 30));
    constexpr int ranks = 4;
    tensor<float> out({1, 60, s.heads, s.dim_v}), again({1, 60, s.heads, s.dim_v});
    for (tensor<float>* into : {&out, &again})
        threads::run(ranks, [&](thread_communicator world) {
            const positions rows = contiguous{}.positions(world.rank(), ranks, s.queries),
                            keys = contiguous{}.positions(world.rank(), ranks, s.keys);
            attention attend{world, tree{}};
            const auto result = attend.forward(local_rows(q, rows), local_rows(k, keys), local_rows(v, keys));
            put_rows(result.out.view(), rows, into->view()); // rows of different ranks do not overlap
        });
    double largest = 0;
    bool same = true;
    for (index_t i = 0; i < 30; ++i)
        for (index_t h = 0; h < s.heads; ++h)
            for (index_t d = 0; d < s.dim_v; ++d) {
                largest = std::max(largest, std::abs(static_cast<double>(out(0, i, h, d))));
                same = same && out(0, i, h, d) == out(0, i + 30, h, d) && out(0, i, h, d) == again(0, i, h, d);
            }
    CHECK(same);
    CHECK(largest > 0.1);
}

TEST_CASE("a finished softmax is merged as the partial that it was, and one that has seen nothing adds nothing") {
    const extents shape{2, 5, 3, 4};
    const auto some = [&](std::uint64_t seed) {
        partial<double> p(shape);
        const tensor<double> acc = normal<double>(shape, seed), x = normal<double>({2, 5, 3, 2}, seed + 100);
        for (index_t b = 0; b < 2; ++b)
            for (index_t i = 0; i < 5; ++i)
                for (index_t h = 0; h < 3; ++h)
                    if ((i + static_cast<index_t>(seed)) % 5 != 0) // a row that has seen nothing
                        p.fold(b, i, h, 20 * x(b, i, h, 0), std::abs(x(b, i, h, 1)) + 0.1, acc.view().at(b, i, h));
        return p;
    };
    partial<double> plain(shape), finished(shape);
    for (const std::uint64_t seed : std::vector<std::uint64_t>{1, 2, 2 + 5, 3}) {
        const partial<double> term = some(seed);
        tensor<double> out(shape), lse({2, 5, 3, 1});
        term.finish(out.view(), lse.view());
        plain.merge(term);
        finished.merge(out.view(), lse.view());
    }
    tensor<double> a(shape), b(shape), la({2, 5, 3, 1}), lb({2, 5, 3, 1});
    plain.finish(a.view(), la.view());
    finished.finish(b.view(), lb.view());
    for (index_t i = 0; i < shape.count(); ++i) CHECK(a.data()[i] == Approx(b.data()[i]).epsilon(1e-12));
    for (index_t i = 0; i < la.shape().count(); ++i) CHECK(la.data()[i] == Approx(lb.data()[i]).epsilon(1e-12));

    partial<double> nothing_seen(shape);
    nothing_seen.finish(b.view(), lb.view());
    partial<double> none(shape);
    none.merge(b.view(), lb.view());
    none.finish(a.view(), la.view());
    for (index_t i = 0; i < shape.count(); ++i) CHECK(a.data()[i] == 0);
    for (index_t i = 0; i < la.shape().count(); ++i) CHECK(la.data()[i] == -std::numeric_limits<double>::infinity());
}
