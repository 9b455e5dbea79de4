/// Scores of a user's own: the model that docs/layouts_and_scores.md shows, and functions, which count in the whole sequence.
#include <support/catch.hpp>
#include <support/gradient_case.hpp>
#include <support/same_bits.hpp>

#include <strategy/thread_product.hpp>

#include <seqpar/kernel/reference.hpp>
#include <seqpar/seqpar.hpp>

#include <algorithm>
#include <cmath>
#include <string>

using namespace seqpar;
using namespace seqpar::testing;

// As in the docs, to the letter.
struct recency : seqpar::full {
    seqpar::score_stages stages() const { return bit(seqpar::score_stage::function); }
    template <class A>
    void modify(seqpar::score_stage, const seqpar::score_row& row, std::span<A> x, std::span<A> slope) const {
        for (std::size_t j = 0; j < x.size(); ++j) { // x[j]: the score of the row with keys[j]
            const A distance = static_cast<A>(row.query - row.keys[static_cast<seqpar::index_t>(j)]);
            const A factor = 1 / (1 + distance * distance);
            x[j] *= factor;
            if (!slope.empty()) slope[j] *= factor; // empty in forward
        }
    }
    std::string name() const { return "recency"; }
};
static_assert(score<recency> && differentiable_score<recency>);

namespace {

/// Different for every pair, batch entry and head.
double added(index_t b, index_t h, index_t i, index_t j) {
    return std::sin(static_cast<double>(b + 3 * h + 7 * i + 29 * j));
}

const attention_shape shape{2, 21, 26, 6, 3, 5, 7};

} // namespace

TEST_CASE("a model of the concept is what a function of the same formula is, by every strategy") {
    const auto factor = [](index_t i, index_t j) {
        const auto distance = static_cast<double>(i - j);
        return 1 / (1 + distance * distance);
    };
    const score_function same(
        "recency", [factor](double x, index_t, index_t, index_t i, index_t j) { return x * factor(i, j); },
        [factor](double, index_t, index_t, index_t i, index_t j) { return factor(i, j); });
    const auto check = [&](int ranks, const auto& strategy, const auto& kernel) {
        CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                  const positions rows = zigzag{}.positions(world.rank(), ranks, shape.queries),
                                  keys = zigzag{}.positions(world.rank(), ranks, shape.keys);
                  const tensor<double> q = local_rows(normal<double>({2, 21, 6, 5}, 1), rows),
                                       k = local_rows(normal<double>({2, 26, 3, 5}, 2), keys),
                                       v = local_rows(normal<double>({2, 26, 3, 7}, 3), keys),
                                       dout = local_rows(normal<double>({2, 21, 6, 7}, 4), rows);
                  const auto by = [&](const auto& s) {
                      attention attend{world, strategy, kernel, zigzag{}, s, span_backend<double>{}};
                      auto fwd = attend.forward(q, k, v);
                      auto g = attend.backward(dout, fwd);
                      return std::make_pair(std::move(fwd), std::move(g));
                  };
                  const auto own = by(causal{} & recency{}), want = by(causal{} & same), plain = by(causal{});
                  const bool equal =
                      same_bits(own.first.out, want.first.out) && same_bits(own.first.lse, want.first.lse) &&
                      same_bits(own.second.dq, want.second.dq) && same_bits(own.second.dk, want.second.dk) &&
                      same_bits(own.second.dv, want.second.dv);
                  const bool changed = !same_bits(own.second.dq, plain.second.dq);
                  return equal && changed ? std::string() : strategy.name() + " differs\n";
              }) == "");
    };
    check(1, serial{}, reference{});
    check(3, ring{}, flash{});
    check(3, all_gather{}, reference{});
    check(2, ulysses<>{}, flash{});
    check(3, tree{}, flash{});
}

TEST_CASE("a function is given the indices of the whole sequence, by every strategy and inside documents") {
    const score_function f(
        "added", [](double x, index_t b, index_t h, index_t i, index_t j) { return x + added(b, h, i, j); },
        [](double, index_t, index_t, index_t, index_t) { return 1.0; });
    const auto check = [&](const any_score& s, naive_score truth) {
        truth.bias = added; // which a function that adds is
        for (const any_layout& layout : all_layouts())
            for (const int p : {1, 2, 5}) {
                const gradient_case<double> c(shape, layout, s, true, p, truth);
                CHECK(said_by_ranks(p, [&](thread_communicator world) {
                          return c.trouble_with(world, ring{}, flash{}, saving::resend) +
                                 c.trouble_with(world, all_gather{}, reference{}, saving::keep) +
                                 c.trouble_with(world, ulysses<>{}, flash{}, saving::resend) +
                                 c.trouble_with(world, tree{}, reference{}, saving::resend);
                      }) == "");
            }
    };
    check(f, naive_score{[](index_t, index_t) { return true; }});
    check(any_score(f) & documents<>({0, 9, 21}, {0, 11, 26}) & causal{},
          naive_score{[](index_t i, index_t j) { return i < 9 ? j <= i : j >= 11 && j - 11 <= i - 9; }});
}

TEST_CASE("a function without derivative goes forward, and says so where it is only known at run time") {
    const any_score s = any_score(causal{}) &
                        score_function("half", [](double x, index_t, index_t, index_t, index_t) { return x / 2; });
    CHECK(lacks_derivative(s));
    CHECK(lacks_derivative(any_score(documents<>({0, 4})) & s));
    const tensor<double> q = normal<double>({1, 4, 2, 8}, 1);
    const auto forward = [&](const auto& of, const auto& kernel, double scale) {
        attention attend{of, kernel, span_backend<double>{}, options{.scale = scale}};
        return attend.forward(q, q, q);
    };
    // Halves are exact. flash takes the scale and log2 e in one factor where no value changes, so it rounds once less.
    CHECK(same_bits(forward(s, reference{}, 0.5).out, forward(causal{}, reference{}, 0.25).out));
    const auto fast = forward(s, flash{}, 0.5), plain = forward(causal{}, flash{}, 0.25);
    double apart = 0;
    for (index_t n = 0; n < fast.out.shape().count(); ++n)
        apart = std::max(apart, std::abs(fast.out.data()[n] - plain.out.data()[n]));
    CHECK(apart < 1e-14);

    attention attend{s, span_backend<double>{}, options{.scale = 0.5}};
    const auto fwd = attend.forward(q, q, q);
    std::string text;
    try {
        static_cast<void>(attend.backward(fwd.out, fwd));
    } catch (const refusal& why) {
        text = why.what();
    }
    CHECK(text.find("function(half)") != std::string::npos);
    CHECK(text.find("has no derivative: backward needs one") != std::string::npos);
}
