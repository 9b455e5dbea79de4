/// Backward of every ring on threads: the gradients of the global function, and messages, bytes, rounds and peak memory equal
/// to the formulas as integers, on every rank.
#include <support/backward_counts.hpp>
#include <support/catch.hpp>
#include <support/gradient_case.hpp>

#include "ring_variants.hpp"
#include "thread_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/softcap.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <algorithm>
#include <cmath>
#include <mutex>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

constexpr int rank_counts[] = {1, 2, 3, 4, 5, 7, 8};

struct backward_product {
    int every;
    int next = 0;

    template <class T = float, class Kernel = flash, class Strategy = ring>
    void gradients(int ranks, const Strategy& how, const Kernel& kernel = {}) {
        for (const attention_shape& shape : small_shapes())
            for (const any_layout& layout : all_layouts())
                for (const any_score& s : all_scores())
                    for (const bool with_dlse : {false, true})
                        if (next++ % every == 0) {
                            const gradient_case<T> c(shape, layout, s, with_dlse, ranks);
                            CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                                      return c.trouble_with(world, how, kernel, saving::resend);
                                  }) == "");
                        }
    }
    template <class T = float, class Kernel = flash, class Strategy = ring>
    void counts(int ranks, const Strategy& how, const std::vector<attention_shape>& shapes, const Kernel& kernel = {}) {
        for (const attention_shape& shape : shapes)
            for (const any_layout& layout : all_layouts())
                for (const any_score& s : all_scores())
                    for (const bool with_dlse : {false, true})
                        if (next++ % every == 0)
                            CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                                      return count_trouble_with<T>(world, how, kernel, {shape, layout, s}, saving::keep,
                                                                   with_dlse);
                                  }) == "");
    }
};

void gradients_of_all(backward_product product) {
    for (const int p : rank_counts)
        for (const ring& how : rings(p)) {
            product.gradients<double>(p, how, reference{});
            product.gradients<float>(p, how);
        }
    for (const ring& how : rings(4)) {
        product.gradients<bfloat16>(4, how);
        product.gradients<double>(8, ulysses<ring>{2, how}, reference{});
    }
}
void backward_counts_of_all(backward_product product) {
    for (const int p : rank_counts)
        for (const ring& how : rings(p)) product.counts(p, how, small_shapes());
    for (const ring& how : rings(4)) {
        product.counts(4, how, tiled_shapes());
        product.counts<double>(4, how, small_shapes(), reference{});
        product.counts<bfloat16>(4, how, small_shapes());
        product.counts(8, ulysses<ring>{2, how}, small_shapes());
    }
}

} // namespace

TEST_CASE("gradients of rings, a part of the product") { gradients_of_all({127}); }
TEST_CASE("what backward of rings costs, a part of the product") { backward_counts_of_all({61}); }
TEST_CASE("gradients of rings, the full product", "[slow]") { gradients_of_all({1}); }
TEST_CASE("what backward of rings costs, the full product", "[slow]") { backward_counts_of_all({1}); }

TEST_CASE("rings of scores that change values: the gradients of serial, those of sinks and slopes included") {
    const any_score s = any_score(causal{alignment::at(-3)}) & softcap{4.0} & alibi({0.5, 0.1, 0.0, 0.3, 0.25, 0.02}) &
                        sink({0.5, -1.0, 2.0, 0.0, 1.0, -0.5});
    const extents e{2, 37, 6, 8}, ke{2, 37, 3, 8};
    const auto q = normal<double>(e, 1), k = normal<double>(ke, 2), v = normal<double>(ke, 3),
               dout = normal<double>(e, 4);
    attention whole{serial{}, s, span_backend<double>{}, reference{}};
    const auto fwd = whole.forward(q, k, v);
    const auto expected = whole.backward(dout, fwd);
    const auto off = [](const auto& mine, const auto& all, const positions& at) {
        double most = 0;
        const extents shape = mine.shape();
        for (index_t b = 0; b < shape.batch; ++b)
            for (index_t i = 0; i < shape.seq; ++i)
                for (index_t h = 0; h < shape.heads; ++h)
                    for (index_t x = 0; x < shape.dim; ++x)
                        most = std::max(most, std::abs(mine(b, i, h, x) - all(b, at[i].value, h, x)));
        return most;
    };
    // Sums of at most 37 terms of order 10 in another order: 2^-53 of each, with room
    constexpr double allowed = 1e-12;
    for (const int P : {3, 4})
        for (const ring& how : rings(P))
            threads::run(P, [&](thread_communicator world) {
                const positions at = zigzag{}.positions(world.rank(), P, 37);
                const auto my_q = local_rows(q, at), my_k = local_rows(k, at), my_v = local_rows(v, at),
                           my_dout = local_rows(dout, at);
                attention attend{world, how, s, zigzag{}, span_backend<double>{}, reference{}};
                const auto mine = attend.forward(my_q, my_k, my_v);
                const auto g = attend.backward(my_dout, mine);
                double heads = 0;
                for (std::size_t h = 0; h < 6; ++h)
                    heads = std::max({heads, std::abs(g.dsinks[h] - expected.dsinks[h]),
                                      std::abs(g.dslopes[h] - expected.dslopes[h])});
                static std::mutex mutex;
                const std::lock_guard lock(mutex);
                CHECK(off(mine.out, fwd.out, at) < allowed);
                CHECK(off(g.dq, expected.dq, at) < allowed);
                CHECK(off(g.dk, expected.dk, at) < allowed);
                CHECK(off(g.dv, expected.dv, at) < allowed);
                CHECK(heads < 100 * allowed); // of all rows and keys
                CHECK(std::abs(expected.dsinks[0]) > 1e-3);
                CHECK(std::abs(expected.dslopes[0]) > 1e-3);
            });
}

TEST_CASE("rings of packed documents") {
    const any_score packed(causal{alignment::bottom_right()} & documents<>({0, 5, 5, 18, 31}, {0, 9, 12, 20, 37}));
    for (const any_layout& layout : all_layouts())
        for (const ring& how : rings(6)) {
            const scheme_case c{{2, 37, 37, 6, 3, 16, 5}, layout, packed};
            const gradient_case<double> g(c.shape, layout, packed, true, 6);
            CHECK(said_by_ranks(6, [&](thread_communicator world) {
                      return trouble_with<double>(world, how, flash{}, c) +
                             count_trouble_with<double>(world, how, flash{}, c, saving::resend, true) +
                             g.trouble_with(world, how, flash{}, saving::resend);
                  }) == "");
        }
}
