/// What users of other libraries complained of, and why it cannot happen here: results. A case for each complaint, by every
/// strategy that there is; test_ranks.cpp has those about ranks and messages.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/naive.hpp>
#include <support/naive_gradient.hpp>

#include <seqpar/kernel/rope.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};

/// f(run) for every strategy and layout on these numbers of ranks.
template <class T, class F>
void everywhere(const std::vector<int>& ranks, const any_score& s, const F& f) {
    for (const int p : ranks)
        for (const auto& strategy : all_strategies<thread_communicator>(p))
            for (const any_layout& layout : layouts) {
                const whole_run<T> run{strategy, p, s, layout};
                INFO(run.name());
                f(run);
            }
}

/// Largest distance of out from its definition; NaN, if some element is.
template <class T, class Sees>
[[nodiscard]] double error_of(const tensor<T>& out, const tensor<T>& q, const tensor<T>& k, const tensor<T>& v,
                              const Sees& sees) {
    const double scale = 1 / std::sqrt(static_cast<double>(q.shape().dim));
    const auto want = naive_attention<T>(q.view(), k.view(), v.view(), scale, sees);
    double worst = 0;
    for (std::size_t n = 0; n < want.out.size(); ++n) {
        const double off = std::abs(static_cast<double>(out.data()[n]) - static_cast<double>(want.out[n]));
        if (!(off <= worst)) worst = off;
    }
    return worst;
}

constexpr auto before_or_at = [](index_t i, index_t j) { return j <= i; };
constexpr auto everything = [](index_t, index_t) { return true; };

} // namespace

TEST_CASE("1: a length that the ranks do not divide (DeepSpeed #7384, #5177)") {
    for (index_t n = 0; n <= 17; ++n)
        everywhere<double>({3, 4}, causal{}, [n](const whole_run<double>& run) {
            const auto q = normal<double>({1, n, 4, 4}, 1), k = normal<double>({1, n, 2, 4}, 2),
                       v = normal<double>({1, n, 2, 4}, 3);
            CHECK(error_of(run.forward(q, k, v).out, q, k, v, before_or_at) < 1e-14);
        });
}

TEST_CASE("2: the tails of packed documents (TransformerEngine #1930, #3331)") {
    // With v = 1 at one token and 0 elsewhere, a row's output is the weight of that token: of the last of each document.
    const std::vector<index_t> cu{0, 5, 6, 13, 13, 22};
    const index_t n = cu.back();
    everywhere<double>({2, 4, 7}, documents{cu}, [&](const whole_run<double>& run) {
        const auto q = normal<double>({1, n, 2, 4}, 1), k = normal<double>({1, n, 2, 4}, 2);
        tensor<double> v({1, n, 2, 1});
        for (std::size_t d = 0; d + 1 < cu.size(); ++d)
            if (cu[d + 1] > cu[d])
                for (index_t h = 0; h < 2; ++h) v(0, cu[d + 1] - 1, h) = 1;
        const auto out = run.forward(q, k, v).out;
        double least = 1;
        for (index_t i = 0; i < n; ++i) least = std::min(least, out(0, i, 1));
        CHECK(least > 0);         // each row has seen the last token of its document
        CHECK(out(0, 5, 0) == 1); // which is all that a document of one token has
    });
}

TEST_CASE("3: rotary positions under a balanced layout (Megatron #560, #1473)") {
    const index_t n = 21;
    const auto q = normal<double>({1, n, 2, 8}, 1), v = normal<double>({1, n, 2, 8}, 3);
    auto rotated = copy_of(q);
    const origin whole{positions::whole(n), {0, 2}};
    rope{}.apply(block<double>{rotated.view(), whole});
    for (const any_layout& layout : layouts)
        threads::run(4, [&](thread_communicator world) {
            const positions at = layout.positions(world.rank(), 4, n);
            auto mine = whole_run<double>::part(q, at);
            const origin here{at, {0, 2}};
            rope{}.apply(block<double>{mine.view(), here}); // each rank rotates its own rows
            attention attend{world, ring{}, layout, causal{}, span_backend<double>{}};
            const auto out = attend.forward(mine, mine, whole_run<double>::part(v, at)).out;
            const whole_run<double> serial_run{serial{}, 1, causal{}};
            const auto want = serial_run.forward(rotated, rotated, v).out;
            double worst = 0;
            for (index_t i = 0; i < at.size(); ++i)
                for (index_t d = 0; d < 8; ++d)
                    worst = std::max(worst, std::abs(out(0, i, 1, d) - want(0, at[i].value, 1, d)));
            if (!(worst < 1e-13)) throw error(layout.name() + ": rotated rows differ");
        });
    SUCCEED();
}

namespace {

/// A mask that no library has a name for: keys from i / 2 to i / 2 + 3.
struct odd_mask {
    [[nodiscard]] coverage cover(lengths, position_range, position_range) const { return coverage::partial; }
    [[nodiscard]] interval visible(lengths, position i, const run& keys) const {
        return between(keys, position(i.value / 2), position(i.value / 2 + 3));
    }
    [[nodiscard]] std::string name() const { return "odd_mask"; }
};

} // namespace

TEST_CASE("4: a mask silently replaced by another (accelerate PR 4177, TRL PR 6843)") {
    const index_t n = 23;
    const auto q = normal<double>({1, n, 4, 4}, 1), k = normal<double>({1, n, 2, 4}, 2),
               v = normal<double>({1, n, 2, 4}, 3);
    everywhere<double>({1, 2, 4, 5}, odd_mask{}, [&](const whole_run<double>& run) {
        CHECK(error_of(run.forward(q, k, v).out, q, k, v,
                       [](index_t i, index_t j) { return j >= i / 2 && j <= i / 2 + 3; }) < 1e-14);
    });
    everywhere<double>({1, 4}, sliding_window{3, 1}, [&](const whole_run<double>& run) {
        CHECK(error_of(run.forward(q, k, v).out, q, k, v,
                       [](index_t i, index_t j) { return j >= i - 3 && j <= i + 1; }) < 1e-14);
    });
}

TEST_CASE("5: sinks dropped, or added once a step (verl PR 4551)") {
    const index_t n = 19;
    const std::vector<double> logits{1.5, -2, 0, 7};
    const auto q = normal<double>({1, n, 4, 4}, 1), k = normal<double>({1, n, 2, 4}, 2),
               v = normal<double>({1, n, 2, 4}, 3);
    everywhere<double>({1, 2, 3, 4, 7, 8}, causal{}, [&](const whole_run<double>& run) {
        whole_run<double> with = run;
        with.score = any_score(causal{}) & sink{logits};
        const auto a = run.forward(q, k, v), b = with.forward(q, k, v);
        double worst = 0;
        for (index_t i = 0; i < n; ++i)
            for (index_t h = 0; h < 4; ++h) {
                const double logit = logits[static_cast<std::size_t>(h)];
                const double lse = std::log(std::exp(a.lse(0, i, h)) + std::exp(logit));
                worst = std::max(worst, std::abs(b.lse(0, i, h) - lse));
                for (index_t d = 0; d < 4; ++d)
                    worst = std::max(worst,
                                     std::abs(b.out(0, i, h, d) - a.out(0, i, h, d) * std::exp(a.lse(0, i, h) - lse)));
            }
        CHECK(worst < 1e-13);
    });
}

TEST_CASE("6: backward with a chunk's own lse or out, or with stale K and V (tt-metal #53205, diffusers #14265)") {
    const index_t n = 21;
    const auto q = normal<double>({1, n, 4, 5}, 1), k = normal<double>({1, n, 2, 5}, 2),
               v = normal<double>({1, n, 2, 3}, 3), dout = normal<double>({1, n, 4, 3}, 4);
    naive_gradients want;
    gradient_bounds bounds;
    gradient_rounding rounding;
    rounding.u = 0x1p-53, rounding.merges = 16, rounding.out = 0x1p-53;
    naive_gradient<double>(q.view(), k.view(), v.view(), dout.view(), {}, 1 / std::sqrt(5.0), before_or_at, rounding,
                           want, bounds);
    const auto far = [](const tensor<double>& have, const std::vector<long double>& truth) {
        double worst = 0;
        for (std::size_t i = 0; i < truth.size(); ++i)
            worst = std::max(worst, std::abs(have.data()[i] - static_cast<double>(truth[i])));
        return worst;
    };
    everywhere<double>({1, 2, 3, 4, 5, 8}, causal{}, [&](const whole_run<double>& run) {
        const auto g = run.backward(q, k, v, dout);
        CHECK(far(g.dq, want.dq) < 1e-13);
        CHECK(far(g.dk, want.dk) < 1e-13);
        CHECK(far(g.dv, want.dv) < 1e-13);
    });
    // Two forwards before their backwards: each backward is of its own.
    const auto k2 = normal<double>({1, n, 2, 5}, 12), v2 = normal<double>({1, n, 2, 3}, 13);
    for (const saving save : {saving::keep, saving::resend})
        for (const auto& strategy : all_strategies<thread_communicator>(4))
            threads::run(4, [&](thread_communicator world) {
                const positions at = contiguous{}.positions(world.rank(), 4, n);
                const auto mine = [&](const tensor<double>& x) { return whole_run<double>::part(x, at); };
                const auto my_q = mine(q), my_k = mine(k), my_v = mine(v), my_k2 = mine(k2), my_v2 = mine(v2),
                           my_dout = mine(dout);
                attention attend{world,
                                 strategy,
                                 any_score(causal{}),
                                 any_kernel(flash{}),
                                 span_backend<double>{},
                                 options{.save = save}};
                const auto first = attend.forward(my_q, my_k, my_v);
                const auto second = attend.forward(my_q, my_k2, my_v2);
                const auto g2 = attend.backward(my_dout, second);
                const auto g1 = attend.backward(my_dout, first);
                double worst = 0;
                for (index_t i = 0; i < at.size(); ++i)
                    for (index_t h = 0; h < 4; ++h)
                        for (index_t d = 0; d < 5; ++d)
                            worst = std::max(
                                worst, std::abs(g1.dq(0, i, h, d) -
                                                static_cast<double>(
                                                    want.dq[static_cast<std::size_t>((at[i].value * 4 + h) * 5 + d)])));
                if (!(worst < 1e-13)) throw error(strategy.name() + ": the first forward's gradients are off");
                if (at.size() > 1 && g2.dq(0, 1, 1, 1) == g1.dq(0, 1, 1, 1)) throw error("both are the same");
            });
}

TEST_CASE("7: an error that grows with the number of ranks (ring-flash-attention #42, #22)") {
    // Half a unit in the last place of out, whatever P is: partials that travelled in bfloat16 would add theirs. The root mean square
    // over all elements, since a single one that is rounded the other way may have the largest error. Of strategies whose partials
    // travel it would be 1.2 to 2.3 times as large; where weights are rounded too, relative to a reference of each block's own,
    // chance moves it by a tenth.
    const double chance = flash{}.target() == instruction_set::avx512_bf16 ? 1.12 : 1.01;
    const index_t n = 260;
    const auto q = normal<bfloat16>({1, n, 2, 32}, 1), k = normal<bfloat16>({1, n, 2, 32}, 2),
               v = normal<bfloat16>({1, n, 2, 32}, 3);
    const auto want = naive_attention<bfloat16>(q.view(), k.view(), v.view(), 1 / std::sqrt(32.0), before_or_at);
    const auto rms_error = [&](const whole_run<bfloat16>& run) {
        const auto out = run.forward(q, k, v).out;
        double squares = 0;
        for (std::size_t i = 0; i < want.out.size(); ++i) {
            const double off = static_cast<double>(out.data()[i]) - static_cast<double>(want.out[i]);
            squares += off * off;
        }
        return std::sqrt(squares / static_cast<double>(want.out.size()));
    };
    const double alone = rms_error({serial{}, 1, any_score(causal{})});
    CHECK(alone > 0);
    everywhere<bfloat16>({2, 8, 13}, causal{},
                         [&](const whole_run<bfloat16>& run) { CHECK(rms_error(run) <= chance * alone); });
}

TEST_CASE("9: NaN from an empty shard or a row that sees nothing (vllm-ascend PR 14126, flashinfer PR 4401)") {
    const any_score sees_nothing_first = causal{alignment::at(-3)};
    for (const index_t n : {index_t{0}, index_t{1}, index_t{3}, index_t{5}})
        everywhere<float>({2, 4, 7}, sees_nothing_first, [n](const whole_run<float>& run) {
            const auto q = normal<float>({1, n, 3, 4}, 1), k = normal<float>({1, n, 3, 4}, 2),
                       v = normal<float>({1, n, 3, 4}, 3), dout = normal<float>({1, n, 3, 4}, 4);
            const auto r = run.forward(q, k, v);
            const auto g = run.backward(q, k, v, dout);
            index_t wrong = 0;
            for (index_t i = 0; i < n; ++i)
                for (index_t h = 0; h < 3; ++h) {
                    const bool blind = i < 3;
                    wrong += (r.lse(0, i, h) == -std::numeric_limits<float>::infinity()) != blind;
                    for (index_t d = 0; d < 4; ++d) {
                        wrong += blind && (r.out(0, i, h, d) != 0 || g.dq(0, i, h, d) != 0);
                        wrong += !std::isfinite(r.out(0, i, h, d)) || !std::isfinite(g.dq(0, i, h, d));
                        wrong += !std::isfinite(g.dk(0, i, h, d)) || !std::isfinite(g.dv(0, i, h, d));
                    }
                }
            CHECK(wrong == 0);
        });
}

TEST_CASE("10: lse in base 2 here and base e there") {
    const index_t n = 12;
    tensor<double> zero({1, n, 2, 4}); // all scores are 0: lse_i = ln(keys that row i sees)
    const auto v = normal<double>({1, n, 2, 4}, 3);
    everywhere<double>({1, 3, 4}, causal{}, [&](const whole_run<double>& run) {
        const auto r = run.forward(zero, zero, v);
        double worst = 0;
        for (index_t i = 0; i < n; ++i)
            worst = std::max(worst, std::abs(r.lse(0, i, 1) - std::log(static_cast<double>(i + 1))));
        CHECK(worst < 1e-14);
    });
}

TEST_CASE("11: no more ranks than heads (verl #1226)") {
    const index_t n = 30;
    const auto q = normal<double>({1, n, 3, 4}, 1), k = normal<double>({1, n, 1, 4}, 2),
               v = normal<double>({1, n, 1, 4}, 3);
    everywhere<double>({5, 7, 8}, full{}, [&](const whole_run<double>& run) {
        CHECK(error_of(run.forward(q, k, v).out, q, k, v, everything) < 1e-14);
    });
}

TEST_CASE("17: balancing that fails on short or non-causal input (pytorch #141429, #159706)") {
    for (index_t n = 0; n <= 9; ++n)
        everywhere<double>({4}, full{}, [n](const whole_run<double>& run) {
            const auto q = normal<double>({1, n, 2, 4}, 1), k = normal<double>({1, n + 2, 2, 4}, 2),
                       v = normal<double>({1, n + 2, 2, 4}, 3);
            CHECK(error_of(run.forward(q, k, v).out, q, k, v, everything) < 1e-14);
        });
}

TEST_CASE("18: gradients scaled by the number of ranks (Megatron #673, #906)") {
    const index_t n = 16;
    const auto q = normal<double>({1, n, 4, 4}, 1), k = normal<double>({1, n, 2, 4}, 2),
               v = normal<double>({1, n, 2, 4}, 3), dout = normal<double>({1, n, 4, 4}, 4);
    const auto one = whole_run<double>{serial{}, 1, any_score(causal{})}.backward(q, k, v, dout);
    everywhere<double>({1, 2, 4, 8}, causal{}, [&](const whole_run<double>& run) {
        const auto g = run.backward(q, k, v, dout);
        const auto along = [](const tensor<double>& have, const tensor<double>& want) { // <have, want> / <want, want>
            double product = 0, square = 0;
            for (index_t i = 0; i < have.shape().count(); ++i)
                product += have.data()[i] * want.data()[i], square += want.data()[i] * want.data()[i];
            return product / square;
        };
        CHECK(std::abs(along(g.dq, one.dq) - 1) < 1e-13);
        CHECK(std::abs(along(g.dk, one.dk) - 1) < 1e-13);
        CHECK(std::abs(along(g.dv, one.dv) - 1) < 1e-13);
    });
}
