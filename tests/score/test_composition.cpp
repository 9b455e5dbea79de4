/// Scores that change values, composed: one meaning whatever the order, what is hidden stays hidden, what has no meaning is
/// refused, and rows that see nothing.
#include <support/catch.hpp>
#include <support/changing_scores.hpp>
#include <support/same_bits.hpp>

#include <strategy/thread_product.hpp>

#include <seqpar/kernel/reference.hpp>
#include <seqpar/seqpar.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

const auto doubled = [](double x, index_t, index_t, index_t, index_t) { return 2 * x; };
const auto two = [](double, index_t, index_t, index_t, index_t) { return 2.0; };

std::string refused(const any_score& s) {
    try {
        s.check();
    } catch (const refusal& why) {
        return why.what();
    }
    return {};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// sum(weight out) + sum of lse / 2, by one rank in double.
struct loss {
    tensor<double> q = normal<double>({2, 13, 4, 6}, 1), k = normal<double>({2, 17, 2, 6}, 2),
                   v = normal<double>({2, 17, 2, 5}, 3), weight = normal<double>({2, 13, 4, 5}, 4), half{{2, 13, 4, 1}};

    loss() { std::fill_n(half.data(), half.shape().count(), 0.5); }

    double of(const any_score& s) const {
        attention attend{serial{}, reference{}, s, span_backend<double>{}};
        const auto fwd = attend.forward(q, k, v);
        double sum = 0;
        for (index_t n = 0; n < fwd.out.shape().count(); ++n) sum += weight.data()[n] * fwd.out.data()[n];
        for (index_t n = 0; n < fwd.lse.shape().count(); ++n) sum += fwd.lse.data()[n] / 2;
        return sum;
    }
    auto gradients(const any_score& s) const {
        attention attend{serial{}, reference{}, s, span_backend<double>{}};
        const auto fwd = attend.forward(q, k, v);
        return attend.backward(weight, fwd, half.view());
    }
};

} // namespace

TEST_CASE("slopes of ALiBi are those of the paper for every number of heads") {
    // get_slopes of the paper's own code (ofirpress/attention_with_linear_biases), in its own recursion
    const std::function<std::vector<double>(index_t)> paper = [&](index_t n) {
        const double log = std::log2(static_cast<double>(n));
        std::vector<double> slopes;
        if (log == std::floor(log)) {
            const double start = std::exp2(-std::exp2(-(log - 3)));
            for (index_t i = 0; i < n; ++i) slopes.push_back(start * std::pow(start, static_cast<double>(i)));
            return slopes;
        }
        const auto closest = static_cast<index_t>(std::exp2(std::floor(log)));
        slopes = paper(closest);
        const std::vector<double> twice = paper(2 * closest);
        for (index_t i = 0; i < n - closest; ++i) slopes.push_back(twice[static_cast<std::size_t>(2 * i)]);
        return slopes;
    };
    for (index_t heads = 1; heads <= 130; ++heads) {
        const std::vector<double> want = paper(heads), have = alibi::geometric(heads).values();
        REQUIRE(have.size() == want.size());
        for (std::size_t h = 0; h < want.size(); ++h) REQUIRE(have[h] == Approx(want[h]).epsilon(1e-13));
    }
    CHECK(alibi::geometric(1).values() == std::vector<double>{1.0 / 256});
    CHECK(alibi::geometric(12).values()[8] == Approx(std::sqrt(0.5)));
}

TEST_CASE("the order in which scores are written makes no difference, in any bit") {
    const tensor<float> array = normal<float>({1, 4, 19, 23}, 9);
    const std::vector<double> slopes{0.5, 0.25, 0.1, 0.02}, logits{0.3, -1, -infinity, 2};
    std::vector<any_score> parts{documents<>({0, 7, 7, 19}, {0, 10, 12, 23}),
                                 causal{alignment::bottom_right()},
                                 sliding_window{8, 3},
                                 softcap{1.5},
                                 alibi{slopes, alignment::bottom_right()},
                                 bias<float>(array.data(), {1, 4, 19, 23}),
                                 sink{logits},
                                 dropout{0.2, 5},
                                 score_function("twice", doubled, two)};
    const tensor<double> q = normal<double>({2, 19, 4, 6}, 1), k = normal<double>({2, 23, 2, 6}, 2),
                         v = normal<double>({2, 23, 2, 5}, 3), dout = normal<double>({2, 19, 4, 5}, 4);
    const auto compute = [&] {
        any_score all = parts.front();
        for (std::size_t n = 1; n < parts.size(); ++n) all = all & parts[n];
        attention attend{serial{}, reference{}, all, span_backend<double>{}};
        auto fwd = attend.forward(q, k, v);
        auto grads = attend.backward(dout, fwd);
        return std::make_pair(std::move(fwd), std::move(grads));
    };
    const auto first = compute();
    CHECK(first.second.dsinks.size() == 4);
    CHECK(first.second.dslopes.size() == 4);
    std::mt19937 random(3);
    for (int n = 0; n < 20; ++n) {
        std::shuffle(parts.begin(), parts.end(), random);
        const auto other = compute();
        CHECK(same_bits(first.first.out, other.first.out));
        CHECK(same_bits(first.first.lse, other.first.lse));
        CHECK(same_bits(first.second.dq, other.second.dq));
        CHECK(same_bits(first.second.dk, other.second.dk));
        CHECK(same_bits(first.second.dv, other.second.dv));
        CHECK(first.second.dsinks == other.second.dsinks);
        CHECK(first.second.dslopes == other.second.dslopes);
    }
}

TEST_CASE("what would depend on the order, or would count twice, is refused") {
    const std::vector<double> of_heads{0.5, 1};
    const any_score curve(score_function("twice", doubled, two));
    const auto twice = [](const any_score& a, const any_score& b, const char* what) {
        for (const any_score& s : {a & b, b & any_score(causal{}) & a, a & any_score(documents<>({0, 4, 9})) & b})
            CHECK(contains(refused(s), std::string("both have ") + what));
    };
    twice(sink{of_heads}, sink{of_heads}, "sinks");
    twice(alibi{of_heads}, alibi::geometric(2), "slopes");
    twice(dropout{0.1}, dropout{0.2}, "dropout");
    twice(softcap{3}, softcap{4}, "a cap");
    twice(curve, curve, "a function");
    CHECK(refused(any_score(softcap{3}) & curve & sink{of_heads} & alibi{of_heads} & dropout{0.1}).empty());
    // masks and arrays are many: their order makes no difference
    const float array[4] = {};
    const bool mask[4] = {};
    CHECK(refused(any_score(bias<float>(array, {1, 1, 2, 2})) & bias<bool>(mask, {1, 1, 2, 2}) & causal{}).empty());
}

TEST_CASE("parameters of scores that change values are refused with their value") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(contains(refused(softcap{0}), "softcap of 0: it must be finite and above 0"));
    CHECK(contains(refused(softcap{-3}), "softcap of -3"));
    CHECK(contains(refused(softcap{infinity}), "softcap of inf"));
    CHECK(contains(refused(softcap{nan}), "softcap of"));
    CHECK(contains(refused(alibi{{1, infinity}}), "ALiBi slope of head 1 is inf"));
    CHECK(contains(refused(alibi{{nan}}), "ALiBi slope of head 0"));
    CHECK(contains(refused(sink{{1, 2, infinity}}), "sink of head 2 is inf"));
    CHECK(contains(refused(sink{{nan}}), "sink of head 0"));
    CHECK(refused(sink{{-infinity, 3}}).empty());
    const auto unfit = [](const any_score& s) -> std::string {
        try {
            s.check(attention_shape{1, 8, 8, 4, 2, 8, 8});
        } catch (const refusal& why) {
            return why.what();
        }
        return {};
    };
    CHECK(contains(unfit(alibi{{1, 2}}), "ALiBi has 2 slopes, and Q has 4 heads"));
    CHECK(contains(unfit(any_score(causal{}) & sink{{1, 2, 3}}), "there are 3 sinks, and Q has 4 heads"));
}

TEST_CASE("names tell scores that change values apart, to the last digit") {
    const double next = std::nextafter(30.0, 31.0);
    const std::vector<any_score> all{softcap{30},
                                     softcap{next},
                                     softcap{30} & causal{},
                                     alibi{{0.5, 0.25}},
                                     alibi{{0.25, 0.5}},
                                     alibi{{0.5, std::nextafter(0.25, 1.0)}},
                                     alibi{{0.5, 0.25}, alignment::bottom_right()},
                                     sink{{0.5, 0.25}},
                                     sink{{0.5, -infinity}},
                                     dropout{0.1, 1},
                                     dropout{0.1, 2},
                                     dropout{std::nextafter(0.1, 1.0), 1},
                                     score_function("a", doubled),
                                     score_function("b", doubled)};
    for (std::size_t a = 0; a < all.size(); ++a)
        for (std::size_t b = 0; b < a; ++b) CHECK(all[a].name() != all[b].name());
}

TEST_CASE("a key that one stage hides is hidden after all of them") {
    const score_function even(
        "even keys", [](double x, index_t, index_t, index_t, index_t j) { return j % 2 == 0 ? x : -infinity; },
        [](double, index_t, index_t, index_t, index_t j) { return j % 2 == 0 ? 1.0 : 0.0; });
    const std::vector<any_score> rest{full{}, softcap{2}, alibi{{0.3, 0.1}}, any_score(softcap{2}) & alibi{{0.3, 0.1}},
                                      any_score(softcap{2}) & dropout{0.3, 2}};
    const tensor<double> q = normal<double>({1, 9, 2, 4}, 1);
    tensor<double> k = normal<double>({1, 12, 1, 4}, 2), v = normal<double>({1, 12, 1, 3}, 3);
    for (const any_score& r : rest) {
        const auto run_by = [&](const auto& kernel) {
            attention attend{serial{}, kernel, any_score(even) & r, span_backend<double>{}};
            auto fwd = attend.forward(q, k, v);
            auto grads = attend.backward(fwd.out, fwd);
            return std::make_pair(std::move(fwd), std::move(grads));
        };
        const auto check = [&](const auto& kernel) {
            INFO(r.name() << ", " << kernel.name());
            const auto before = run_by(kernel);
            for (index_t j = 1; j < 12; j += 2)
                for (index_t d = 0; d < 3; ++d) {
                    const double kept = v(0, j, 0, d);
                    v(0, j, 0, d) = 1e6;
                    REQUIRE(same_bits(before.first.out, run_by(kernel).first.out));
                    v(0, j, 0, d) = kept;
                    REQUIRE(before.second.dv(0, j, 0, d) == 0);
                    REQUIRE(before.second.dk(0, j, 0, d) == 0);
                }
        };
        check(reference{});
        check(flash{});
    }
}

TEST_CASE("gradients of sinks, slopes and of what a cap lets through are those of finite differences") {
    const loss l;
    const double h = 1e-5;
    const std::vector<double> slopes{0.4, 0.2, 0.05, -0.1}, logits{0.7, -1.5, 2, 0.1};
    const auto make = [&](const std::vector<double>& a, const std::vector<double>& s) {
        return any_score(causal{alignment::bottom_right()}) & documents<>({0, 6, 13}, {0, 9, 17}) & softcap{1.3} &
               alibi{a} & sink{s} & dropout{0.25, 8};
    };
    const auto g = l.gradients(make(slopes, logits));
    REQUIRE(g.dsinks.size() == 4);
    REQUIRE(g.dslopes.size() == 4);
    for (std::size_t n = 0; n < 4; ++n) {
        auto above = slopes, below = slopes;
        above[n] += h, below[n] -= h;
        CHECK(g.dslopes[n] == Approx((l.of(make(above, logits)) - l.of(make(below, logits))) / (2 * h)).epsilon(1e-6));
        above = below = logits;
        above[n] += h, below[n] -= h;
        CHECK(g.dsinks[n] == Approx((l.of(make(slopes, above)) - l.of(make(slopes, below))) / (2 * h)).epsilon(1e-6));
    }
    loss moved;
    for (const index_t n : {0, 57, 203, 300}) {
        double& x = moved.q.data()[n];
        const double at = x;
        x = at + h;
        const double above = moved.of(make(slopes, logits));
        x = at - h;
        const double below = moved.of(make(slopes, logits));
        x = at;
        CHECK(g.dq.data()[n] == Approx((above - below) / (2 * h)).epsilon(1e-5).margin(1e-9));
    }
}

TEST_CASE(
    "a row that sees nothing has zeros and -inf, or its sink, by every strategy, and gives no gradient but that") {
    // Documents without keys and without queries, padding, negative positions; and more ranks than some have rows.
    const any_score blind = any_score(documents<>({0, 3, 3, 9, 11}, {0, 0, 4, 10, 13})) & causal{alignment::at(-1)};
    const std::vector<double> logits{0.8, -infinity, -2, 1.25};
    const attention_shape s{2, 14, 15, 4, 2, 6, 5};
    const auto sees = [&](index_t i) { return !blind.visible({14, 15}, position(i), run{position(0), 1, 15}).empty(); };
    const auto check = [&](int ranks, const auto& strategy, const auto& kernel) {
        for (const bool with_sinks : {false, true})
            for (const any_layout& layout : all_layouts())
                CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                          const positions rows = layout.positions(world.rank(), ranks, s.queries),
                                          keys = layout.positions(world.rank(), ranks, s.keys);
                          const tensor<float> q = local_rows(normal<float>({2, 14, 4, 6}, 1), rows),
                                              k = local_rows(normal<float>({2, 15, 2, 6}, 2), keys),
                                              v = local_rows(normal<float>({2, 15, 2, 5}, 3), keys),
                                              dout = local_rows(normal<float>({2, 14, 4, 5}, 4), rows);
                          attention attend{world,
                                           strategy,
                                           kernel,
                                           layout,
                                           with_sinks ? blind & sink{logits} : blind,
                                           span_backend<float>{}};
                          const auto fwd = attend.forward(q, k, v);
                          const auto g = attend.backward(dout, fwd);
                          std::string trouble;
                          index_t blind_rows = 0;
                          for (index_t i = 0; i < rows.size(); ++i) {
                              if (sees(rows[i].value)) continue;
                              ++blind_rows;
                              for (index_t b = 0; b < 2; ++b)
                                  for (index_t h = 0; h < 4; ++h) {
                                      const double lse = fwd.lse(b, i, h),
                                                   want = with_sinks ? logits[static_cast<std::size_t>(h)] : -infinity;
                                      if (!(lse == want || std::abs(lse - want) < 1e-6))
                                          trouble += "lse " + std::to_string(lse) + " ";
                                      for (index_t d = 0; d < 5; ++d)
                                          if (fwd.out(b, i, h, d) != 0) trouble += "out ";
                                      for (index_t d = 0; d < 6; ++d)
                                          if (g.dq(b, i, h, d) != 0) trouble += "dq ";
                                  }
                          }
                          for (index_t n = 0; n < g.dk.shape().count(); ++n)
                              if (!std::isfinite(g.dk.data()[n])) trouble += "dk ";
                          for (const float d : g.dsinks)
                              if (!std::isfinite(d)) trouble += "dsinks ";
                          if (with_sinks && (g.dsinks.size() != 4 || g.dsinks[1] != 0)) trouble += "dsinks of none ";
                          return trouble.empty() ? trouble : attend.name() + ": " + trouble + '\n';
                      }) == "");
    };
    REQUIRE_FALSE(sees(0));
    REQUIRE_FALSE(sees(12));
    REQUIRE(sees(7));
    check(1, serial{}, reference{});
    for (const int p : {2, 5}) {
        check(p, ring{}, flash{});
        check(p, all_gather{}, flash{});
        check(p, ulysses<>{}, flash{});
        check(p, tree{}, flash{});
    }
    check(4, ulysses<ring>{2, {}}, reference{});
}
