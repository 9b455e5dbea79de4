/// Grid on threads: held to all that tests/strategy/test_strategies.cpp holds the other strategies to.
#include <support/catch.hpp>

#include "thread_product.hpp"

#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ulysses.hpp>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct product : thread_product {
    void all() {
        for (const int p : {1, 2, 3, 4, 5, 6, 7, 8}) check(p, grid{}, small_shapes(), p == 1);
        check(2, grid{1, 2}, small_shapes(), false);
        check(3, grid{1, 3}, small_shapes(), false);
        check(4, grid{1, 4}, small_shapes(), false);
        check(5, grid{0, 5}, small_shapes(), false);
        check(6, grid{2, 3}, small_shapes(), false);
        check(8, grid{2, 4}, small_shapes(), false);
        check(8, grid{2, 0}, tiled_shapes(), false);
        check(4, grid{2, 2}, tiled_shapes(), false);
        check(8, ulysses<grid>{2, {2, 2}}, small_shapes(), false);

        check<double>(6, grid{3, 2}, small_shapes(), false);
        check<bfloat16>(4, grid{}, small_shapes(), false);
        check<bfloat16>(6, grid{2, 3}, tiled_shapes(), false);
    }
};

} // namespace

TEST_CASE("grid, a twenty-third of the product") { product{{23}}.all(); }
TEST_CASE("grid, the full product", "[slow]") { product{{1}}.all(); }

TEST_CASE("grid sends what the formulas say for even shards, forward and backward") {
    constexpr index_t n = 6, H = 8, d = 4, kv_heads = 2;
    constexpr std::size_t h = H * d, k = kv_heads * d, e = 2, a = 4, rows = n;
    for (const int pa : {1, 2, 3, 4})
        for (const int pc : {1, 2, 4})
            for (const saving save : {saving::keep, saving::resend}) {
                if (pa * pc == 1) continue;
                const std::size_t ma = static_cast<std::size_t>(pa) - 1, mc = static_cast<std::size_t>(pc) - 1;
                const attention_shape s{1, n * pa * pc, n * pa * pc, H, kv_heads, d, d};
                threads::run(pa * pc, [&](thread_communicator world) {
                    const attention attend{world, grid{pa, pc}, span_backend<bfloat16>{}, options{.save = save}};
                    const plan::cost forward = attend.predict(s, world.rank()),
                                     backward = attend.predict_backward(s, world.rank());
                    const std::size_t again = save == saving::keep ? 0 : 1;
                    static std::mutex mutex;
                    const std::lock_guard lock(mutex);
                    CHECK(forward.bytes == rows * ((h * mc + 2 * k * ma) * e + (h + H) * mc * a));
                    CHECK(forward.messages == 2 * mc + ma);
                    CHECK(forward.rounds == 2 * mc + ma);
                    CHECK(backward.bytes ==
                          rows * ((h * mc + again * (h * mc + 2 * k * ma)) * e + ((h + 2 * H) * mc + 2 * k * ma) * a));
                    CHECK(backward.messages == 2 * mc + (1 + again) * ma);
                    CHECK(backward.rounds == 2 * mc + (1 + again) * ma);
                });
            }
}

TEST_CASE("keys that a row of the grid does not see are not sent to it") {
    // Causal, contiguous: a row sees the keys of its own ranks and of those of the rows before.
    constexpr index_t n = 10, H = 4, d = 8;
    constexpr std::size_t shard = n * H * d * sizeof(float), item = n * H * sizeof(float);
    constexpr int pa = 3, pc = 2;
    const attention_shape s{1, n * pa * pc, n * pa * pc, H, H, d, d};
    CHECK(said_by_ranks(pa * pc, [&](thread_communicator world) {
              const attention attend{world, grid{pa, pc}, causal{}};
              const int row = world.rank() / pc;
              std::size_t expected = 2 * shard * static_cast<std::size_t>(pa - 1 - row);
              if (row > 0) expected += 2 * shard + item; // both columns have keys that both ranks see
              if (row == 0) expected += world.rank() == 0 ? shard + item : shard;
              const plan::cost told = attend.predict(s, world.rank());
              return trouble_with<float>(world, grid{pa, pc}, flash{},
                                         scheme_case{s, contiguous{}, causal{}, true, false}) +
                     (told.bytes == expected ? "" : "expected " + std::to_string(expected) + " bytes\n");
          }) == "");
}

TEST_CASE("a grid whose ranks all hold the same queries is a tree, forward and backward") {
    constexpr index_t nq = 3, nk = 23, heads = 4, dim = 8;
    constexpr int ranks = 4;
    const tensor<float> q = normal<float>({1, nq, heads, dim}, 1), k = normal<float>({1, nk, heads, dim}, 2),
                        v = normal<float>({1, nk, heads, dim}, 3), dout = normal<float>({1, nq, heads, dim}, 4);
    std::vector<placement> where;
    for (int r = 0; r < ranks; ++r)
        where.push_back({{positions::whole(nq), {0, heads}}, {striped{}.positions(r, ranks, nk), {0, heads}}});
    CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
              const std::size_t me = static_cast<std::size_t>(world.rank());
              const tensor<float> my_k = local_rows(k, where[me].keys.rows), my_v = local_rows(v, where[me].keys.rows);
              const auto run = [&](const auto& strategy) {
                  thread_communicator comm = world.split(0, world.rank());
                  auto bound = strategy.on(comm);
                  const local_attention<flash, full> local{
                      {}, {}, context{0.3, {nq, nk}, 1, {}, std::pmr::get_default_resource(), nullptr, {}}};
                  tensor<float> out(q.shape()), lse({1, nq, heads, 1}), delta({1, nq, heads, 1});
                  const operands<float> x{q.view(), my_k.view(), my_v.view(), out.view(), lse.view()};
                  typename decltype(bound)::template saved<float> kept;
                  bound.template forward<float>(local, where, x, &kept);
                  row_delta<float>(std::as_const(out).view(), dout.view(), {}, delta.view());
                  tensor<float> dq(q.shape()), dk(my_k.shape()), dv(my_v.shape());
                  bound.template backward<float>(
                      local, where, x,
                      gradients<float>{{dout.view(), std::as_const(lse).view(), std::as_const(delta).view()},
                                       false,
                                       true,
                                       dq.view(),
                                       dk.view(),
                                       dv.view()},
                      kept);
                  std::vector<float> all;
                  for (const tensor<float>* t : {&out, &lse, &dq, &dk, &dv})
                      all.insert(all.end(), t->data(), t->data() + t->shape().count());
                  return all;
              };
              const std::vector<float> of_grid = run(grid{2, 2}), of_tree = run(tree{});
              return std::string(of_grid == of_tree && std::abs(of_grid.front()) > 1e-4F ? "" : "they differ\n");
          }) == "");
}

TEST_CASE("a grid says which shapes fit, and chooses one") {
    CHECK(grid{}.name() == "grid");
    CHECK(grid{2, 4}.name() == "grid:2x4");
    CHECK(grid{0, 4}.name() == "grid:0x4");
    for (const auto& wrong : {grid{3, 2}, grid{0, 3}, grid{16, 0}, grid{-2, -4}, grid{-1, 0}})
        CHECK_THROWS_WITH(wrong.check(8),
                          Catch::Contains("grid:") &&
                              Catch::Contains("does not fit 8 ranks: allowed are 8x1, 4x2, 2x4, 1x8, or 0"));
    for (const auto& right : {grid{2, 4}, grid{0, 4}, grid{8, 0}, grid{}}) right.check(8);
    const auto chosen = [](int ranks, index_t heads, index_t kv_heads) {
        return plan::least_sent(ranks, {{{}, {0, heads}}, {{}, {0, kv_heads}}});
    };
    CHECK(chosen(1, 4, 4) == plan::rank_grid{1, 1});
    CHECK(chosen(4, 4, 4) == plan::rank_grid{2, 2});
    CHECK(chosen(7, 4, 4) == plan::rank_grid{7, 1});
    CHECK(chosen(8, 4, 4) == plan::rank_grid{4, 2});
    CHECK(chosen(12, 4, 4) == plan::rank_grid{4, 3});
    CHECK(chosen(16, 8, 2) == plan::rank_grid{8, 2}); // sqrt(16 / 4)
    CHECK(chosen(64, 8, 2) == plan::rank_grid{16, 4});
    CHECK(chosen(8, 8, 1) == plan::rank_grid{8, 1});
}
