/// Every ring on threads: within the derived bound of the definition; messages, bytes, rounds and peak memory equal to the
/// formulas as integers, on every rank, forward and backward; gradients of the global function.
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

#include <cmath>
#include <memory>
#include <sstream>
#include <utility>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

constexpr int rank_counts[] = {1, 2, 3, 4, 5, 7, 8};

/// What backward counts other than predicted on this rank; empty if nothing. Collective.
template <real_element T, class Kernel, communicator C, class Strategy>
std::string backward_trouble(C world, const Strategy& how, const Kernel& kernel, const scheme_case& c, bool into_lse) {
    const attention_shape& s = c.shape;
    const int rank = world.rank(), size = world.size();
    const auto seed = static_cast<std::uint64_t>(rank);
    const index_t rows = c.layout.positions(rank, size, s.queries).size(),
                  keys = c.layout.positions(rank, size, s.keys).size();
    const tensor<T> q = normal<T>({s.batch, rows, s.heads, s.dim}, seed),
                    k = normal<T>({s.batch, keys, s.kv_heads, s.dim}, seed + 20),
                    v = normal<T>({s.batch, keys, s.kv_heads, s.dim_v}, seed + 40),
                    dout = normal<T>({s.batch, rows, s.heads, s.dim_v}, seed + 60);
    const auto dlse = normal<accumulator_t<T>>({s.batch, rows, s.heads, 1}, seed + 80);
    const auto counted = std::make_shared<meter>();
    counted_memory memory;
    std::ostringstream trouble;
    {
        attention attend{metered<C>(world, counted), how, c.layout, c.score, kernel, span_backend<T>{},
                         options{.memory = &memory}};
        const auto fwd = attend.forward(q, k, v);
        counted->reset();
        memory.reset_peak();
        const auto g = attend.backward(dout, fwd, into_lse ? dlse.view() : tensor_view<const accumulator_t<T>>{});
        const auto sent = counted->payload();
        const plan::cost predicted = attend.predict_backward(s, rank, into_lse);
        const auto same = [&](const char* what, auto have, auto want) {
            if (static_cast<std::size_t>(have) != static_cast<std::size_t>(want))
                trouble << what << " counted " << have << ", predicted " << want << '\n';
        };
        same("bytes", sent.bytes, predicted.bytes);
        same("messages", sent.messages, predicted.messages);
        same("rounds", sent.rounds, predicted.rounds);
        same("peak memory", memory.peak(), predicted.memory);
    }
    if (memory.held() != 0) trouble << "still holds " << memory.held() << " bytes\n";
    if (trouble.str().empty()) return {};
    std::ostringstream title;
    title << "backward of " << how.name() << ", " << c.layout.name() << ", " << c.score.name() << ", rank " << rank
          << " of " << size << ", Nq " << s.queries << " Nk " << s.keys << '\n';
    return title.str() + trouble.str();
}

struct backward_product {
    int every;
    int next = 0;

    template <class T = float, class Kernel = flash>
    void gradients(int ranks, const ring& how, const Kernel& kernel = {}) {
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
    template <class T = float, class Kernel = flash>
    void counts(int ranks, const ring& how, const std::vector<attention_shape>& shapes, const Kernel& kernel = {}) {
        for (const attention_shape& shape : shapes)
            for (const any_layout& layout : all_layouts())
                for (const any_score& s : all_scores())
                    for (const bool with_dlse : {false, true})
                        if (next++ % every == 0)
                            CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                                      return backward_trouble<T>(world, how, kernel, scheme_case{shape, layout, s},
                                                                 with_dlse);
                                  }) == "");
    }
};

void forward_of_all(thread_product product) {
    for (const int p : rank_counts)
        for (const ring& how : rings(p)) product.check(p, how, small_shapes(), false);
    for (const ring& how : rings(4)) {
        product.check(4, how, tiled_shapes(), false);
        product.check<double>(4, how, small_shapes(), false, reference{});
        product.check<bfloat16>(4, how, small_shapes(), false);
        product.check(8, ulysses<ring>{2, how}, small_shapes(), false);
    }
}
void gradients_of_all(backward_product product) {
    for (const int p : rank_counts)
        for (const ring& how : rings(p)) {
            product.gradients<double>(p, how, reference{});
            product.gradients<float>(p, how);
        }
    for (const ring& how : rings(4)) product.gradients<bfloat16>(4, how);
}
void backward_counts_of_all(backward_product product) {
    for (const int p : rank_counts)
        for (const ring& how : rings(p)) product.counts(p, how, small_shapes());
    for (const ring& how : rings(4)) {
        product.counts(4, how, tiled_shapes());
        product.counts<double>(4, how, small_shapes(), reference{});
        product.counts<bfloat16>(4, how, small_shapes());
    }
}

} // namespace

TEST_CASE("rings, a part of the product") { forward_of_all({67}); }
TEST_CASE("gradients of rings, a part of the product") { gradients_of_all({61}); }
TEST_CASE("what backward of rings costs, a part of the product") { backward_counts_of_all({41}); }

TEST_CASE("rings, the full product", "[slow]") { forward_of_all({1}); }
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
                             backward_trouble<double>(world, how, flash{}, c, true) +
                             g.trouble_with(world, how, flash{}, saving::resend);
                  }) == "");
        }
}

TEST_CASE("two rings on one communicator do not mix, and a ring gives the same bits in every run") {
    const auto bits = [](const ring& one, const ring& other) {
        std::vector<std::vector<float>> all(4);
        threads::run(4, [&](thread_communicator world) {
            const auto seed = static_cast<std::uint64_t>(world.rank());
            const auto q = normal<float>({1, 9, 4, 8}, seed), k = normal<float>({1, 9, 2, 8}, seed + 9);
            attention a{world, one, striped{}, causal{}}, b{world, other, striped{}, causal{}};
            // the ranks start the passes of both in one order, and one may be ahead of another by a pass
            const auto fa = a.forward(q, k, k), fb = b.forward(q, k, k);
            const auto gb = b.backward(q, fb), ga = a.backward(q, fa);
            auto& mine = all[static_cast<std::size_t>(world.rank())];
            for (const tensor<float>* t : {&fa.out, &ga.dq, &ga.dk, &ga.dv})
                mine.insert(mine.end(), t->data(), t->data() + t->shape().count());
        });
        return all;
    };
    for (const ring& how : rings(4)) {
        const auto alone = bits(how, ring{});
        for (int again = 0; again < 5; ++again)
            for (const ring& other : rings(4)) REQUIRE(bits(how, other) == alone);
    }
}
