/// Verification of gradients: right ones pass with every strategy and score, and defects are found, in the tensor that has
/// them, with all rows judged and with a sample.
#include <support/catch.hpp>
#include <support/changing_scores.hpp>
#include <support/scheme_case.hpp>

#include <strategy/product.hpp>

#include <seqpar/comm/threads.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/dropout.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/any_strategy.hpp>
#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>
#include <seqpar/verify.hpp>

#include <string>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

struct verdicts {
    report forward;
    gradient_report backward;
};

/// Both, on the ranks of a thread world; those of the last rank.
template <class T, class Kernel = any_kernel>
verdicts verified(int ranks, const any_strategy<thread_communicator>& how, const attention_shape& s,
                  const any_score& sees, bool with_dlse, saving save, const Kernel& kernel,
                  const judging& options = {}) {
    using A = accumulator_t<T>;
    const auto q = normal<T>({s.batch, s.queries, s.heads, s.dim}, 1),
               k = normal<T>({s.batch, s.keys, s.kv_heads, s.dim}, 2),
               v = normal<T>({s.batch, s.keys, s.kv_heads, s.dim_v}, 3),
               dout = normal<T>({s.batch, s.queries, s.heads, s.dim_v}, 4);
    const auto dlse = normal<A>({s.batch, s.queries, s.heads, 1}, 5);
    verdicts found;
    threads::run(ranks, [&](thread_communicator world) {
        const positions rows = zigzag{}.positions(world.rank(), ranks, s.queries),
                        keys = zigzag{}.positions(world.rank(), ranks, s.keys);
        const auto my_q = local_rows(q, rows), my_k = local_rows(k, keys), my_v = local_rows(v, keys),
                   my_dout = local_rows(dout, rows);
        const tensor<A> my_dlse = local_rows(dlse, rows);
        attention attend{
            world, how, zigzag{}, sees, any_kernel(kernel), span_backend<T>{}, seqpar::options{.save = save}};
        const report forward = verify(attend, my_q, my_k, my_v, options);
        const gradient_report backward =
            verify_backward(attend, my_q, my_k, my_v, my_dout,
                            with_dlse ? tensor_view<const A>(my_dlse.view()) : tensor_view<const A>{}, options);
        if (world.rank() == ranks - 1) found = {forward, backward};
    });
    return found;
}

const attention_shape packed{2, 41, 41, 4, 2, 8, 5};

} // namespace

TEMPLATE_TEST_CASE("right gradients pass, whatever the score", "", float, double, bfloat16) {
    for (const attention_shape& shape : {packed, attention_shape{1, 23, 37, 6, 3, 4, 7}})
        for (const changing_score& s : changing_scores(shape)) {
            INFO(s.library.name());
            const verdicts r =
                verified<TestType>(3, ring{}, shape, s.library, true, saving::resend, any_kernel(flash{}));
            INFO(r.forward.text());
            INFO(r.backward.text());
            CHECK(r.forward.passed);
            CHECK(r.backward.passed);
            CHECK(r.backward.worst_ratio() > 0.001); // a bound that nothing comes near says nothing
        }
}

TEST_CASE("right gradients pass by every strategy, on every shape") {
    const any_score sees(causal{} & sliding_window{12, 3});
    using any = any_strategy<thread_communicator>;
    for (const any& how :
         std::vector<any>{ring{}, all_gather{1}, ulysses<>{}, tree{}, grid{2, 2}, ulysses<ring>{2, {}}})
        for (const attention_shape& shape : small_shapes()) {
            INFO(how.name() << ", Nq " << shape.queries << ", Nk " << shape.keys);
            const verdicts r = verified<float>(4, how, shape, sees, false, saving::keep, any_kernel(flash{}));
            INFO(r.backward.text());
            CHECK(r.forward.passed);
            CHECK(r.backward.passed);
        }
}

namespace {

/// Kernels with one defect each in their backward.
template <class Defect>
struct broken : reference {
    template <real_element T, score S>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        Defect::backward(how, q, rows, keys, s, dq, dkv);
    }
};
struct drops_delta {
    template <class T, class S, class Dq, class Dkv>
    static void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                         std::span<const key_block<T>> keys, const S& s, const Dq& dq, const Dkv& dkv) {
        const tensor<accumulator_t<T>> none(rows.delta.shape());
        reference{}.backward(how, q, row_gradients<T>{rows.dout, rows.lse, none.view()}, keys, s, dq, dkv);
    }
};
struct scales_dk { // as if every rank had counted it
    template <class T, class S, class Dq, class Dkv>
    static void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                         std::span<const key_block<T>> keys, const S& s, const Dq& dq, const Dkv& dkv) {
        reference{}.backward(how, q, rows, keys, s, dq, dkv);
        for (const auto& g : dkv) {
            tensor<accumulator_t<T>> again(g.dk.shape());
            copy(g.dk, again.view());
            accumulate(again.view(), g.dk);
        }
    }
};
struct loses_dv {
    template <class T, class S, class Dq, class Dkv>
    static void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                         std::span<const key_block<T>> keys, const S& s, const Dq& dq, const Dkv& dkv) {
        reference{}.backward(how, q, rows, keys, s, dq, dkv);
        for (const auto& g : dkv) clear(g.dv.rows(0, std::min<index_t>(1, g.dv.shape().seq)));
    }
};
template <class S>
struct straight : S {
    explicit straight(const S& of) : S(of) {}
    template <class A>
    void modify(score_stage stage, const score_row& row, std::span<A> x, std::span<A>) const {
        S::modify(stage, row, x, std::span<A>{});
    }
};
struct forgets_the_slope { // of the softcap: as if the cap were far away
    template <class T, class S, class Dq, class Dkv>
    static void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                         std::span<const key_block<T>> keys, const S& s, const Dq& dq, const Dkv& dkv) {
        reference{}.backward(how, q, rows, keys, straight<S>(s), dq, dkv);
    }
};
struct loses_slope_gradients {
    template <class T, class S, class Dq, class Dkv>
    static void backward(context how, const block<const T>& q, const row_gradients<T>& rows,
                         std::span<const key_block<T>> keys, const S& s, const Dq& dq, const Dkv& dkv) {
        std::vector<binned_sum> lost(how.slope_gradients.size());
        how.slope_gradients = lost;
        reference{}.backward(how, q, rows, keys, s, dq, dkv);
    }
};

} // namespace

TEST_CASE("defects of backward are found, in the gradient that has them") {
    const any_score score = any_score(causal{}) & softcap(1.5) & alibi({0.3, 0.1, 0.05, 0}) & sink({1, 0, -1, 2});
    enum : std::size_t { dq, dk, dv, dsinks, dslopes };
    const auto failed = [&](const any_kernel& kernel, double budget) {
        const verdicts r =
            verified<float>(3, ring{}, packed, score, false, saving::resend, kernel, judging{budget, 1, 1});
        CHECK(r.forward.passed);
        return r.backward;
    };
    for (const double budget : {1e9, 1e5}) { // all rows and keys; a sample
        CHECK(failed(any_kernel(reference{}), budget).passed);
        CHECK_FALSE(failed(any_kernel(broken<drops_delta>{}), budget).of[dq].passed);
        const gradient_report twice = failed(any_kernel(broken<scales_dk>{}), budget);
        CHECK_FALSE(twice.of[dk].passed);
        CHECK(twice.of[dq].passed);
        CHECK(twice.text().find("dk: FAILED") != std::string::npos);
        CHECK_FALSE(failed(any_kernel(broken<forgets_the_slope>{}), budget).of[dq].passed);
        CHECK_FALSE(failed(any_kernel(broken<loses_slope_gradients>{}), 1e9).of[dslopes].passed);
        CHECK((failed(any_kernel(reference{}), budget).of[dq].judged == 2 * 41 * 4 * 8) == (budget > 1e8));
    }
    const gradient_report lost = failed(any_kernel(broken<loses_dv>{}), 1e9);
    CHECK_FALSE(lost.of[dv].passed);
    CHECK(lost.of[dk].passed);
}

TEST_CASE("a wrong element of a gradient is found and named, judged or not") {
    const auto q = normal<float>({2, 50, 4, 8}, 1), k = normal<float>({2, 60, 2, 8}, 2),
               v = normal<float>({2, 60, 2, 8}, 3), dout = normal<float>({2, 50, 4, 8}, 4);
    context how;
    how.scale = 0.3, how.n = {50, 60}, how.group = 2;
    const causal score;
    const judge forward(reference{}, score, how, tensor_view<const float>(q), tensor_view<const float>(k),
                        tensor_view<const float>(v), {});
    const judge again(
        judge<float, reference, causal>(score, how, q.view(), k.view(), v.view(), forward.out(), forward.lse(), {}));
    CHECK(again.compare(forward.out(), forward.lse()).same_bits_as_serial);

    attention alone{score, options{.scale = 0.3}, reference{}};
    const auto fwd = alone.forward(q, k, v);
    for (const double budget : {1e9, 1e5}) {
        const gradient_judge judged(reference{}, score, how, tensor_view<const float>(q), tensor_view<const float>(k),
                                    tensor_view<const float>(v), tensor_view<const float>(dout),
                                    tensor_view<const float>{}, forward.out(), forward.lse(), judging{budget, 3, 1});
        auto g = alone.backward(dout, fwd);
        const auto compare = [&] { return judged.compare(g.dq.view(), g.dk.view(), g.dv.view(), g.dsinks, g.dslopes); };
        CHECK(compare().passed);
        g.dv(1, 33, 1, 6) += 0.02F;
        const gradient_report r = compare();
        CHECK_FALSE(r.passed);
        CHECK(r.of[2].worst_from_serial.row == 33);
        CHECK(r.of[2].worst_from_serial.component == 6);
        g.dv(1, 33, 1, 6) = std::numeric_limits<float>::quiet_NaN();
        CHECK_FALSE(compare().passed);
        const tensor<float> nothing_q(q.shape()), nothing_k(k.shape());
        CHECK_FALSE(judged.compare(nothing_q.view(), nothing_k.view(), nothing_k.view(), {}, {}).passed);
    }
}
