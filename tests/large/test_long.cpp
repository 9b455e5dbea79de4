/// A sequence of 131,072 rows, computed in earnest: causal, zigzag, by a ring of four ranks, forward and backward; rows and
/// keys that are drawn by lot are judged in double.
#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/attention.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/verify/distance.hpp>
#include <seqpar/verify/gradient_definition.hpp>
#include <seqpar/verify/sample.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

using namespace seqpar;
using testing::normal;

namespace {

/// The largest error of an element over its bound.
[[nodiscard]] double worst_of(const float* have, const std::vector<double>& want, const std::vector<double>& bound) {
    double worst = 0;
    for (std::size_t d = 0; d < want.size(); ++d)
        worst = std::max(worst, ratio_of(distance_from(static_cast<double>(have[d]), want[d]), bound[d]));
    return worst;
}

void check(index_t n, double sampled) {
    constexpr int ranks = 4;
    const extents e{1, n, 1, 64};
    const tensor<float> q = normal<float>(e, 1), k = normal<float>(e, 2), v = normal<float>(e, 3),
                        dout = normal<float>(e, 4);
    tensor<float> out(e), dq(e), dk(e), dv(e), lse({1, n, 1, 1});
    threads::run(ranks, [&](thread_communicator world) {
        const positions at = zigzag{}.positions(world.rank(), ranks, n);
        const auto mine = [&](const tensor<float>& x) {
            tensor<float> part({1, at.size(), 1, x.shape().dim});
            take_rows(x.view(), at, part.view());
            return part;
        };
        const tensor<float> my_q = mine(q), my_k = mine(k), my_v = mine(v);
        attention attend{world, ring{}, zigzag{}, causal{}};
        const auto r = attend.forward(my_q, my_k, my_v);
        const auto g = attend.backward(mine(dout), r);
        put_rows(r.out.view(), at, out.view()), put_rows(r.lse.view(), at, lse.view());
        put_rows(g.dq.view(), at, dq.view()), put_rows(g.dk.view(), at, dk.view());
        put_rows(g.dv.view(), at, dv.view());
    });

    context how;
    how.scale = 1 / std::sqrt(64.0);
    how.n = {n, n};
    const causal mask;
    const auto in = judged_arithmetic::of<float>(2 * ranks);
    const auto view = [](const tensor<float>& x) { return x.view(); };
    const definition<float, causal> define(how, view(q), view(k), view(v), mask, in);
    const gradient_definition<float, causal> gradients(how, view(q), view(k), view(v), view(dout), {}, mask, in);

    // The gradients of a key need every row's lse and delta: those that were computed, with what judged rows may be off by.
    std::vector<row_facts> facts(static_cast<std::size_t>(n));
    row_facts widest;
    double worst[5] = {};
    for (const sampled_row& at : sample_rows(e, sampled, 7)) {
        const judged_row row = define.row(0, at.i, 0);
        worst[0] = std::max(worst[0], worst_of(out.view().at(0, at.i, 0), row.out, row.bound));
        worst[1] =
            std::max(worst[1], ratio_of(std::abs(static_cast<double>(lse(0, at.i, 0)) - row.lse), row.lse_bound));
        const auto of = gradients.row(0, at.i, 0);
        worst[2] = std::max(worst[2], worst_of(dq.view().at(0, at.i, 0), of.dq.value, of.dq.bound));
        widest.lse_error = std::max(widest.lse_error, 2 * of.facts.lse_error);
        widest.delta_error = std::max(widest.delta_error, 2 * of.facts.delta_error);
    }
    for (index_t i = 0; i < n; ++i) {
        double delta = 0;
        for (index_t d = 0; d < 64; ++d)
            delta += static_cast<double>(out(0, i, 0, d)) * static_cast<double>(dout(0, i, 0, d));
        facts[static_cast<std::size_t>(i)] = {static_cast<double>(lse(0, i, 0)), delta, widest.lse_error,
                                              widest.delta_error};
    }
    for (const sampled_row& at : sample_rows(e, sampled, 8)) {
        const auto of = gradients.key(0, at.i, 0, [&](index_t, index_t i, index_t) -> const row_facts& {
            return facts[static_cast<std::size_t>(i)];
        });
        worst[3] = std::max(worst[3], worst_of(dk.view().at(0, at.i, 0), of.dk.value, of.dk.bound));
        worst[4] = std::max(worst[4], worst_of(dv.view().at(0, at.i, 0), of.dv.value, of.dv.bound));
    }
    INFO("of their bounds: out " << worst[0] << ", lse " << worst[1] << ", dq " << worst[2] << ", dk " << worst[3]
                                 << ", dv " << worst[4]);
    for (const double share : worst) {
        CHECK(share < 1);
        CHECK(share > 1e-4); // a bound that nothing comes near says nothing
    }
}

} // namespace

TEST_CASE("a long sequence is right at sampled rows and keys") { check(2051, 40); }

TEST_CASE("131,072 rows are right at sampled rows and keys", "[slow]") { check(131072, 64); }
