/// Backward of tree on threads: the gradients of the global function, at the predicted cost; and with the same queries on
/// every rank.
#include "backward_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <mutex>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct product : backward_product {
    void all() {
        for (const int p : {1, 2, 3, 4, 5, 6, 7, 8}) check(p, tree{});
        check(4, ulysses<tree>{2, {}});
        check(6, ulysses<tree>{3, {}});
        for (const int p : {1, 3, 4, 7}) check<double>(p, tree{}, reference{});
        for (const int p : {2, 5}) check<bfloat16>(p, tree{});
    }
};

} // namespace

TEST_CASE("gradients of tree, a part of the product") { product{{41}}.all(); }
TEST_CASE("gradients of tree, the full product", "[slow]") { product{{1}}.all(); }

TEST_CASE("tree's backward sends what the formulas say for even shards") {
    constexpr index_t n = 6, H = 8, d = 4, kv_heads = 2;
    constexpr std::size_t h = H * d, e = 2, a = 4;
    for (const int ranks : {2, 3, 4, 7, 8})
        for (const saving save : {saving::keep, saving::resend}) {
            const attention_shape s{1, n * ranks, n * ranks, H, kv_heads, d, d};
            const std::size_t m = static_cast<std::size_t>(ranks) - 1, rows = n;
            threads::run(ranks, [&](thread_communicator world) {
                const attention attend{world, tree{}, span_backend<bfloat16>{}, options{.save = save}};
                const plan::cost forward = attend.predict(s, world.rank()),
                                 backward = attend.predict_backward(s, world.rank());
                static std::mutex mutex;
                const std::lock_guard lock(mutex);
                CHECK(forward.bytes == rows * m * (h * e + (h + H) * a));
                CHECK(forward.rounds == 2 * m);
                const std::size_t q = save == saving::keep ? 0 : rows * h * m;
                CHECK(backward.bytes == (rows * h * m + q) * e + rows * m * (2 * H + h) * a);
                CHECK(backward.messages == 2 * m);
                CHECK(backward.rounds == 2 * m);
            });
        }
}

TEST_CASE("queries that see none of a rank's keys are not sent to it") {
    // Causal, contiguous: rank r's queries see the keys of ranks 0 to r.
    constexpr index_t n = 10, H = 4, d = 8;
    constexpr std::size_t row = n * H * d, item = n * H, e = 4, a = 4;
    constexpr int ranks = 5;
    const attention_shape s{1, n * ranks, n * ranks, H, H, d, d};
    const gradient_case<float> c(s, contiguous{}, causal{}, true, ranks);
    CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
              const attention attend{world, tree{}, causal{}};
              const auto rank = static_cast<std::size_t>(world.rank()), after = ranks - 1 - rank;
              std::string trouble =
                  c.trouble_with(world, tree{}, flash{}, saving::resend) +
                  count_trouble_with<float>(world, tree{}, flash{}, {s, contiguous{}, causal{}}, saving::resend, true);
              const plan::cost forward = attend.predict(s, world.rank()),
                               backward = attend.predict_backward(s, world.rank());
              if (forward.bytes != rank * row * e + after * (row + item) * a) trouble += "forward sends more\n";
              if (backward.bytes != rank * (2 * row * e + 2 * item * a) + after * row * a)
                  trouble += "backward sends more\n";
              if (forward.messages != ranks - 1 || backward.messages != ranks - 1) trouble += "messages\n";
              return trouble;
          }) == "");
}

TEST_CASE("the same queries on every rank: dq is the whole gradient, the same bits everywhere") {
    constexpr double scale = 0.6;
    for (const int ranks : {1, 2, 3, 4, 5, 6, 7, 8})
        for (const index_t nq : std::vector<index_t>{0, 1, 5})
            for (const index_t nk : std::vector<index_t>{3, 67}) {
                const attention_shape s{2, nq, nk, 6, 2, 16, 12};
                const causal score{alignment::bottom_right()};
                const gradient_case<double> c(s, striped{}, score, true, ranks);
                const lengths n{nq, nk};
                std::vector<placement> where;
                for (int r = 0; r < ranks; ++r)
                    where.push_back(
                        {{positions::whole(nq), {0, s.heads}}, {striped{}.positions(r, ranks, nk), {0, s.kv_heads}}});
                std::vector<tensor<double>> dqs(static_cast<std::size_t>(ranks));
                tensor<double> dk_whole(c.k.shape()), dv_whole(c.v.shape());
                threads::run(ranks, [&](thread_communicator world) {
                    const std::size_t me = static_cast<std::size_t>(world.rank());
                    const auto counted = std::make_shared<meter>();
                    metered<thread_communicator> comm(world, counted);
                    auto bound = tree{}.on(comm);
                    tensor<double> out(c.dout.shape()), lse(c.dlse.shape()), delta(c.dlse.shape());
                    const tensor<double> k = local_rows(c.k, where[me].keys.rows),
                                         v = local_rows(c.v, where[me].keys.rows);
                    counted_memory memory;
                    const context how{scale, n, s.heads / s.kv_heads, {}, &memory, nullptr, {}};
                    const local_attention<flash, causal> local{{}, score, how};
                    const operands<double> x{c.q.view(), k.view(), v.view(), out.view(), lse.view()};
                    bound.forward<double>(local, where, x);
                    row_delta<double>(std::as_const(out).view(), c.dout.view(), c.dlse.view(), delta.view());
                    tensor<double> dq(c.q.shape()), dk(k.shape()), dv(v.shape());
                    counted->reset();
                    memory.reset_peak();
                    bound.backward<double>(
                        local, where, x,
                        gradients<double>{{c.dout.view(), std::as_const(lse).view(), std::as_const(delta).view()},
                                          true,
                                          true,
                                          dq.view(),
                                          dk.view(),
                                          dv.view()},
                        {});
                    const auto scratch = [](const extents& qs, const extents& vs, std::span<const positions> keys) {
                        return flash{}.backward_workspace_bytes<double>(qs, vs, keys, 1);
                    };
                    const plan::cost told = tree{}.predict_backward({.batch = s.batch,
                                                                     .dim = s.dim,
                                                                     .dim_v = s.dim_v,
                                                                     .group = s.heads / s.kv_heads,
                                                                     .element_bytes = sizeof(double),
                                                                     .accumulator_bytes = sizeof(double),
                                                                     .where = where,
                                                                     .kernel_bytes = scratch,
                                                                     .backward_kernel_bytes = scratch},
                                                                    world.rank());
                    static std::mutex mutex;
                    const std::lock_guard lock(mutex);
                    CHECK(static_cast<std::size_t>(counted->payload().bytes) == told.bytes);
                    CHECK(static_cast<std::size_t>(counted->payload().messages) == told.messages);
                    CHECK(static_cast<std::size_t>(counted->payload().rounds) == told.rounds);
                    CHECK(memory.peak() == told.memory);
                    CHECK(memory.held() == 0);
                    dqs[me] = std::move(dq);
                    put_rows(dk.view(), where[me].keys.rows, dk_whole.view());
                    put_rows(dv.view(), where[me].keys.rows, dv_whole.view());
                });
                const auto within = [](const tensor<double>& have, const auto& want, const auto& bound) {
                    for (std::size_t i = 0; i < want.size(); ++i)
                        if (!(std::abs(have.data()[i] - static_cast<double>(want[i])) <= 2 * bound[i])) return false;
                    return true;
                };
                CHECK(within(dqs[0], c.expected.dq, c.bounds.dq));
                CHECK(within(dk_whole, c.expected.dk, c.bounds.dk));
                CHECK(within(dv_whole, c.expected.dv, c.bounds.dv));
                bool same = true;
                for (const tensor<double>& dq : dqs)
                    for (index_t i = 0; i < dq.shape().count(); ++i) same = same && dq.data()[i] == dqs[0].data()[i];
                CHECK(same);
            }
}
