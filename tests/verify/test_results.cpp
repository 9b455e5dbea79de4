/// Judging what another program has computed: a plain one passes, in every type, and defects are found, counted and located.
#include <support/catch.hpp>
#include <support/random.hpp>
#include <support/refused.hpp>

#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/verify.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

using namespace seqpar;
using testing::normal;

namespace {

/// Attention and its gradients as anyone would write them: whole rows of scores, weights normalised before they meet v, sums
/// from first to last in float. `stored` rounds what is multiplied and what is returned.
template <class T>
struct plain_program {
    tensor<T> q, k, v, dout;
    bool causal_mask = false;
    float (*stored)(float) = [](float x) { return x; };
    float scale = 1 / std::sqrt(static_cast<float>(q.shape().dim));
    index_t group = q.shape().heads / k.shape().heads;

    tensor<T> out{dout.shape()}, dq{q.shape()}, dk{k.shape()}, dv{v.shape()};
    tensor<accumulator_t<T>> lse{{q.shape().batch, q.shape().seq, q.shape().heads, 1}};

    void run() {
        const extents& e = q.shape();
        const auto sized = [](index_t n) { return std::vector<float>(static_cast<std::size_t>(n)); };
        std::vector<float> dk_sum = sized(k.shape().count()), dv_sum = sized(v.shape().count());
        const auto at = [](const auto& x, index_t b, index_t j, index_t g, index_t d) {
            return static_cast<std::size_t>(x.view().at(b, j, g, d) - x.data());
        };
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t h = 0; h < e.heads; ++h)
                for (index_t i = 0; i < e.seq; ++i) {
                    const index_t g = h / group, keys = causal_mask ? std::min(i + 1, k.shape().seq) : k.shape().seq;
                    std::vector<float> p = sized(keys);
                    float max = -std::numeric_limits<float>::infinity(), sum = 0, delta = 0;
                    for (index_t j = 0; j < keys; ++j) {
                        float dot = 0;
                        for (index_t d = 0; d < e.dim; ++d)
                            dot += static_cast<float>(q(b, i, h, d)) * static_cast<float>(k(b, j, g, d));
                        p[static_cast<std::size_t>(j)] = dot * scale;
                        max = std::max(max, dot * scale);
                    }
                    for (float& x : p) sum += x = std::exp(x - max);
                    for (float& x : p) x /= sum;
                    lse(b, i, h) = max + std::log(sum);
                    for (index_t d = 0; d < v.shape().dim; ++d) {
                        float o = 0;
                        for (index_t j = 0; j < keys; ++j)
                            o += stored(p[static_cast<std::size_t>(j)]) * static_cast<float>(v(b, j, g, d));
                        out(b, i, h, d) = static_cast<T>(stored(o));
                        delta += static_cast<float>(dout(b, i, h, d)) * static_cast<float>(out(b, i, h, d));
                    }
                    std::vector<float> row = sized(e.dim);
                    for (index_t j = 0; j < keys; ++j) {
                        const float weight = p[static_cast<std::size_t>(j)];
                        float dp = 0;
                        for (index_t d = 0; d < v.shape().dim; ++d) {
                            const float x = static_cast<float>(dout(b, i, h, d));
                            dp += x * static_cast<float>(v(b, j, g, d));
                            dv_sum[at(v, b, j, g, d)] += stored(weight) * x;
                        }
                        const float ds = stored(weight * (dp - delta));
                        for (index_t d = 0; d < e.dim; ++d) {
                            row[static_cast<std::size_t>(d)] += scale * ds * static_cast<float>(k(b, j, g, d));
                            dk_sum[at(k, b, j, g, d)] += scale * ds * static_cast<float>(q(b, i, h, d));
                        }
                    }
                    for (index_t d = 0; d < e.dim; ++d)
                        dq(b, i, h, d) = static_cast<T>(stored(row[static_cast<std::size_t>(d)]));
                }
        std::transform(dk_sum.begin(), dk_sum.end(), dk.data(), [&](float x) { return static_cast<T>(stored(x)); });
        std::transform(dv_sum.begin(), dv_sum.end(), dv.data(), [&](float x) { return static_cast<T>(stored(x)); });
    }

    [[nodiscard]] given_inputs<T> inputs() const {
        given_inputs<T> in;
        in.q = q.view(), in.k = k.view(), in.v = v.view(), in.dout = dout.view();
        return in;
    }
    [[nodiscard]] given_results<T> results() const {
        given_results<T> of;
        of.out = out.view(), of.lse = lse.view();
        of.dq = dq.view(), of.dk = dk.view(), of.dv = dv.view();
        return of;
    }
};

template <class T>
plain_program<T> plain(index_t queries, index_t keys, bool causal_mask) {
    plain_program<T> p{normal<T>({2, queries, 4, 16}, 1), normal<T>({2, keys, 2, 16}, 2), normal<T>({2, keys, 2, 8}, 3),
                       normal<T>({2, queries, 4, 8}, 4)};
    p.causal_mask = causal_mask;
    return p;
}

/// The nearest number of half precision; none of the tests' is out of its range.
float half(float x) {
    int exponent = 0;
    std::frexp(x, &exponent);
    const float step = std::ldexp(1.0f, std::max(exponent - 11, -24));
    return std::nearbyint(x / step) * step;
}
float brain(float x) { return static_cast<float>(bfloat16(x)); }

const array_verdict& named(const result_report& r, const std::string& name) {
    const auto found = std::find_if(r.of.begin(), r.of.end(), [&](const array_verdict& v) { return v.name == name; });
    REQUIRE(found != r.of.end());
    return *found;
}

bool says(const array_verdict& v, const std::string& what) {
    return std::any_of(v.patterns.begin(), v.patterns.end(),
                       [&](const std::string& p) { return p.find(what) != std::string::npos; });
}

using range = array_verdict::range;

} // namespace

TEST_CASE("a plain program passes, in float, whatever the mask and the sample") {
    for (const bool mask : {false, true})
        for (const index_t rows : {0, 40}) {
            plain_program<float> p = plain<float>(70, 90, mask);
            p.run();
            judging how;
            how.rows = rows;
            const result_report r = mask ? judge_results(p.inputs(), causal{}, p.results(), how)
                                         : judge_results(p.inputs(), full{}, p.results(), how);
            INFO(r.text());
            CHECK(r.passed());
            CHECK(r.of.size() == 5);
            for (const array_verdict& v : r.of) {
                CHECK(v.worst.ratio > 0.003); // a bound that nothing comes near says nothing
                CHECK((rows == 0 ? v.judged == v.shape.count() : v.judged < v.shape.count() / 2));
            }
        }
}

TEST_CASE("a program that rounds weights to the type of its tensors passes as one of that type, and only as one") {
    plain_program<bfloat16> p = plain<bfloat16>(33, 50, true);
    p.stored = brain;
    p.run();
    const result_report r = judge_results(p.inputs(), causal{}, p.results());
    INFO(r.text());
    CHECK(r.passed());
    CHECK(named(r, "dk").worst.ratio > 0.02);

    plain_program<float> h = plain<float>(33, 50, true);
    for (index_t n = 0; n < 16; ++n) h.v.data()[n] *= 1e-6f; // results among the smallest numbers that there are
    for (tensor<float>* x : {&h.q, &h.k, &h.v, &h.dout})
        std::transform(x->data(), x->data() + x->shape().count(), x->data(), half);
    h.stored = half;
    h.run();
    judging how;
    how.arithmetic = judged_arithmetic::of_others_float16(1);
    const result_report as_half = judge_results(h.inputs(), causal{}, h.results(), how);
    INFO(as_half.text());
    CHECK(as_half.passed());
    CHECK(named(as_half, "out").worst.ratio > 0.02);
    const result_report as_float = judge_results(h.inputs(), causal{}, h.results());
    for (const char* name : {"out", "dq", "dk", "dv"}) CHECK_FALSE(named(as_float, name).passed());
}

TEST_CASE("what is off is found, counted and located") {
    plain_program<float> p = plain<float>(64, 64, false);
    p.run();
    const auto judged = [&](index_t rows = 0) {
        judging how;
        how.rows = rows;
        return judge_results(p.inputs(), full{}, p.results(), how);
    };
    const auto each = [](tensor<float>& x, const auto& change) {
        const extents& e = x.shape();
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                for (index_t h = 0; h < e.heads; ++h)
                    for (index_t d = 0; d < e.dim; ++d) x(b, i, h, d) = change(x(b, i, h, d), b, i, h, d);
    };
    tensor<float> right(p.out.shape());
    copy(p.out.view(), right.view());

    SECTION("one element, judged by the definition or not") {
        p.out(1, 33, 2, 7) += 0.01f;
        for (const index_t rows : {0, 16}) {
            const result_report r = judged(rows);
            const array_verdict& v = named(r, "out");
            INFO(r.text());
            CHECK_FALSE(r.passed());
            CHECK(v.off == 1);
            CHECK(v.batches == std::vector<range>{{1, 1}});
            CHECK(v.rows == std::vector<range>{{33, 33}});
            CHECK(v.heads == std::vector<range>{{2, 2}});
            CHECK(v.components == std::vector<range>{{7, 7}});
            CHECK(v.worst.ratio > 10);
            CHECK(v.worst.defined == (rows == 0));
            CHECK(v.worst.error == Approx(0.01).epsilon(0.01));
            CHECK(v.worst.value == static_cast<double>(p.out(1, 33, 2, 7)));
            CHECK(v.worst.right == Approx(static_cast<double>(right(1, 33, 2, 7))).margin(1e-5));
            CHECK(r.text().find("(batch 1, row 33, head 2, component 7)") != std::string::npos);
            CHECK(named(r, "lse").passed());
        }
    }
    SECTION("a head that holds another's") {
        each(p.out,
             [&](float x, index_t b, index_t i, index_t h, index_t d) { return h == 1 ? right(b, i, 3, d) : x; });
        const array_verdict v = named(judged(), "out");
        INFO(v.text());
        CHECK(v.heads == std::vector<range>{{1, 1}});
        CHECK(v.filled > 0.99);
        CHECK(says(v, "whole heads are off"));
        CHECK(says(v, "head 1 of batch entry 0 holds what head 3 should"));
    }
    SECTION("a block of rows") {
        each(p.out, [](float x, index_t, index_t i, index_t, index_t) { return i >= 16 && i < 32 ? x + 1 : x; });
        const array_verdict v = named(judged(), "out");
        CHECK(v.rows == std::vector<range>{{16, 31}});
        CHECK(v.off == 2 * 16 * 4 * 8);
        CHECK(says(v, "one block of rows is off"));
        CHECK(says(v, "off by the same amount everywhere: 1"));
        CHECK_FALSE(says(v, "times"));
    }
    SECTION("base 2") {
        each(p.lse, [](float x, auto...) { return x * std::numbers::log2e_v<float>; });
        const result_report r = judged();
        CHECK(says(named(r, "lse"), "base 2"));
        CHECK(named(r, "out").passed());
    }
    SECTION("zeros") {
        each(p.out, [](float, auto...) { return 0.0f; });
        const array_verdict v = named(judged(), "out");
        CHECK(v.off == v.shape.count());
        CHECK(says(v, "is 0"));
        CHECK(says(v, "all of it is off"));
    }
    SECTION("NaN") {
        p.out(0, 5, 0, 0) = std::numeric_limits<float>::quiet_NaN();
        for (const index_t rows : {0, 16}) {
            const array_verdict v = named(judged(rows), "out");
            CHECK(v.off == 1);
            CHECK(v.not_finite == 1);
            CHECK(says(v, "not finite"));
        }
    }
    SECTION("a gradient that is doubled") {
        each(p.dk, [](float x, auto...) { return 2 * x; });
        for (const index_t rows : {0, 16}) {
            const result_report r = judged(rows);
            INFO(r.text());
            CHECK(says(named(r, "dk"), "2 times what is right"));
            CHECK(named(r, "dq").passed());
            CHECK(named(r, "dv").passed());
        }
    }
}

TEST_CASE("a causal mask that is off by one is off in every row but the last") {
    plain_program<float> p = plain<float>(40, 40, true);
    p.run();
    const result_report r = judge_results(p.inputs(), causal{alignment::at(1)}, p.results());
    INFO(r.text());
    for (const char* name : {"out", "lse"}) {
        CHECK(named(r, name).rows == std::vector<range>{{0, 38}});
        CHECK(says(named(r, name), "one block of rows"));
    }
}

TEST_CASE("rows that see nothing are 0, with lse -inf, and others are told so") {
    plain_program<float> p = plain<float>(20, 20, false);
    p.run();
    const result_report r = judge_results(p.inputs(), causal{alignment::at(-3)}, p.results());
    CHECK(says(named(r, "out"), "rows that see no key"));
    CHECK(says(named(r, "lse"), "rows that see no key"));
}

TEST_CASE("gradients of sinks and slopes are judged where they are given") {
    plain_program<float> p = plain<float>(30, 30, true);
    const auto scores = causal{} & alibi({0.5, 0.25, 0.125, 0.1}) & sink({1, 0, -1, 2});
    attention attend{self_communicator{}, reference{}, scores};
    const auto fwd = attend.forward(p.q, p.k, p.v);
    const auto g = attend.backward(p.dout, fwd);
    std::vector<double> dsinks(g.dsinks.begin(), g.dsinks.end()), dslopes(g.dslopes.begin(), g.dslopes.end());
    given_results<float> of;
    of.out = fwd.out.view(), of.dq = g.dq.view(), of.dsinks = dsinks, of.dslopes = dslopes;
    for (const index_t rows : {0, 16}) {
        judging how;
        how.rows = rows;
        const result_report right = judge_results(p.inputs(), scores, of, how);
        INFO(right.text());
        CHECK(right.passed());
        CHECK(right.of.size() == 4);
        dsinks[2] *= 1.01, dslopes[1] += 10;
        const result_report wrong = judge_results(p.inputs(), scores, of, how);
        CHECK(named(wrong, "dsinks").heads == std::vector<range>{{2, 2}});
        CHECK(named(wrong, "dslopes").heads == std::vector<range>{{1, 1}});
        dsinks[2] = static_cast<double>(g.dsinks[2]), dslopes[1] = static_cast<double>(g.dslopes[1]);
    }
}

TEST_CASE("shapes that do not belong together are refused") {
    plain_program<float> p = plain<float>(10, 12, false);
    const auto text = [&](given_inputs<float> in, given_results<float> of) {
        return testing::refused([&] { static_cast<void>(judge_results(in, full{}, of)); });
    };
    given_results<float> of;
    of.out = p.q.view();
    CHECK(text(p.inputs(), of) ==
          "out is [batch 2, seq 10, heads 4, head_dim 16]: allowed is [batch 2, seq 10, heads 4, "
          "head_dim 8]");
    of = {}, of.dk = p.k.view();
    given_inputs<float> no_dout = p.inputs();
    no_dout.dout = {};
    CHECK(text(no_dout, of).find("give dout") != std::string::npos);
    of = {};
    const std::vector<double> sinks(4);
    of.dsinks = sinks;
    CHECK(text(p.inputs(), of) == "dsinks are 4: allowed are 0, as many as the score has");
}
