/// @file
/// Backward of rows that have seen nothing, as their lse says: also where the score would let them see keys, as where all
/// their scores are minus infinity.

#include "kernel/attention_case.hpp"
#include "support/catch.hpp"

#include <seqpar/kernel/delta.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/softcap.hpp>

using namespace kernel_test;

namespace {

template <class T>
struct gradients_of {
    tensor<T> dq, dk, dv;
};

/// What some rows of q add to all gradients.
template <class T, class K>
gradients_of<T> backward(const K& kernel, const attention_input<T>& in, const any_score& score, const positions& at,
                         tensor<T>& dout, tensor<T>& lse, tensor<T>& delta) {
    const origin rows{at, {0, in.n.heads}}, keys = in.keys();
    const auto q = take_rows(in.q.view(), at);
    const auto my_dout = take_rows(dout.view(), at), my_lse = take_rows(lse.view(), at),
               my_delta = take_rows(delta.view(), at);
    gradients_of<T> g{tensor<T>(q.shape()), tensor<T>(in.n.k()), tensor<T>(in.n.v())};
    const key_block<T> block_of_keys{in.k.view(), in.v.view(), keys};
    const key_gradients<T> dkv{g.dk.view(), g.dv.view()};
    kernel.backward(in.how(), block<const T>{q.view(), rows},
                    row_gradients<T>{my_dout.view(), my_lse.view(), my_delta.view()}, std::span(&block_of_keys, 1),
                    score, g.dq.view(), std::span(&dkv, 1));
    return g;
}

template <class T>
double distance(const tensor<T>& a, const tensor<T>& b) { // NaN, if an element is
    double worst = 0;
    for (index_t i = 0; i < a.shape().count(); ++i) {
        const double off = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
        if (!(off <= worst)) worst = off;
    }
    return worst;
}

template <class T, class K>
void check(const K& kernel, const any_score& score) {
    const sizes n{1, 60, 110, 2, 1, 8, 8};
    const attention_input<T> in(n, 38);
    tensor<T> out(n.out()), dout(n.out()), lse({n.batch, n.rows, n.heads, 1}), delta(lse.shape());
    attend(reference{}, in.how(), in, score).finish(out.view(), lse.view());
    randomise(dout.view(), 39);
    row_delta<T>(out.view(), dout.view(), {}, delta.view());
    for (const index_t blind : {0, 7, 59})
        for (index_t h = 0; h < n.heads; ++h) lse(0, blind, h) = -std::numeric_limits<T>::infinity();

    const auto all = backward(kernel, in, score, positions::whole(n.rows), dout, lse, delta),
               others =
                   backward(kernel, in, score, {run{position(1), 1, 6}, run{position(8), 1, 51}}, dout, lse, delta);
    INFO(kernel.name() << ' ' << score.name());
    for (const index_t blind : {0, 7, 59})
        for (index_t d = 0; d < n.dim; ++d) CHECK(all.dq(0, blind, 1, d) == 0);
    CHECK(std::abs(others.dk(0, 50, 0, 3)) > 1e-3);
    // sums of 120 terms of order 1, in another order
    const double allowed = 1000 * element_traits<T>::roundoff;
    CHECK(distance(all.dk, others.dk) < allowed);
    CHECK(distance(all.dv, others.dv) < allowed);
}

} // namespace

TEMPLATE_TEST_CASE("a row that has seen nothing has no gradients and adds to none", "", float, double) {
    for (const any_score& score : {any_score(full{}), any_score(softcap(20.0))}) {
        check<TestType>(reference{}, score);
        for (const instruction_set set : targets()) check<TestType>(flash{set}, score);
    }
}
