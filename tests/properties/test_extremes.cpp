/// Extreme numbers, by every strategy and kernel, forward and backward: judged by the definition where they are finite; what
/// is not finite reaches exactly the rows that may see it.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/same_bits.hpp>

#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/verify/results.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

constexpr index_t N = 23, heads = 4, kv_heads = 2, dim = 8;

[[nodiscard]] std::vector<any_score> masks() {
    return {full{}, causal{}, sliding_window{5, 2},
            any_score(causal{}) & documents{std::vector<index_t>{0, 4, 4, 13, 21}}};
}

/// Calls f(run) for every strategy on 1, 2, 3, 4 and 5 ranks; layout, mask and kernel change from one to the next.
template <class T, class F>
void everywhere(const F& f) {
    const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};
    const std::vector<any_score> scores = masks();
    const std::vector<any_kernel> kernels{flash{}, reference{}};
    std::size_t n = 0;
    for (const int ranks : {1, 2, 3, 4, 5})
        for (const auto& strategy : all_strategies<thread_communicator>(ranks)) {
            whole_run<T> run{strategy, ranks, scores[n % scores.size()], layouts[n % layouts.size()]};
            run.kernel = kernels[n / scores.size() % kernels.size()];
            f(run);
            ++n;
        }
}

template <class T>
struct input {
    std::string name;
    tensor<T> q = normal<T>({1, N, heads, dim}, 1), k = normal<T>({1, N, kv_heads, dim}, 2),
              v = normal<T>({1, N, kv_heads, dim}, 3), dout = normal<T>({1, N, heads, dim}, 4);

    explicit input(std::string of) : name(std::move(of)) {}
};

template <class T, class F>
void each(tensor<T>& x, const F& change) {
    for (index_t n = 0; n < x.shape().count(); ++n)
        x.data()[n] = static_cast<T>(change(static_cast<float>(x.data()[n])));
}

template <class T>
std::vector<input<T>> extreme_inputs() {
    std::vector<input<T>> all;
    const auto add = [&](const char* name) -> input<T>& { return all.emplace_back(name); };
    each(add("scores of +-1e4").q, [](float x) { return 1e4f * x; });
    {
        input<T>& in = add("denormal numbers");
        for (tensor<T>* x : {&in.q, &in.k, &in.v, &in.dout}) each(*x, [](float y) { return 1e-39f * y; });
    }
    each(add("denormal values").v, [](float x) { return 1e-39f * x; });
    {
        input<T>& in = add("one dominating key");
        each(in.q, [](float x) { return std::abs(x); });
        for (index_t d = 0; d < dim; ++d) in.k(0, 7, 0, d) = in.k(0, 11, 1, d) = static_cast<T>(100.0f);
    }
    {
        input<T>& in = add("all equal");
        for (tensor<T>* x : {&in.q, &in.k, &in.v}) each(*x, [](float) { return 0.7f; });
    }
    each(add("all scores 0").q, [](float) { return 0.0f; });
    each(add("values of -0").v, [](float) { return -0.0f; });
    {
        input<T>& in = add("a huge value of a key that hardly counts");
        each(in.q, [](float x) { return std::abs(x) + 1; });
        for (index_t d = 0; d < dim; ++d) {
            in.k(0, 9, 0, d) = static_cast<T>(-15.0f);
            in.v(0, 9, 0, d) = static_cast<T>(1e30f);
        }
    }
    each(add("huge values").v, [](float x) { return 1e30f * x; });
    return all;
}

template <class T>
void judge_all() {
    for (const input<T>& in : extreme_inputs<T>())
        everywhere<T>([&](const whole_run<T>& run) {
            given_inputs<T> of;
            of.q = in.q.view(), of.k = in.k.view(), of.v = in.v.view(), of.dout = in.dout.view();
            const auto forward = run.forward(in.q, in.k, in.v);
            const auto g = run.backward(in.q, in.k, in.v, in.dout);
            given_results<T> have;
            have.out = forward.out.view(), have.lse = forward.lse.view();
            have.dq = g.dq.view(), have.dk = g.dk.view(), have.dv = g.dv.view();
            judging how;
            how.arithmetic = judged_arithmetic::of<T>(2 * run.ranks);
            const result_report r = judge_results(of, run.score, have, how);
            if (r.passed()) return;
            INFO(in.name << ": " << run.name() << ", " << run.kernel.name() << "\n" << r.text());
            CHECK(r.passed());
        });
    SUCCEED();
}

} // namespace

TEMPLATE_TEST_CASE("extreme numbers are computed within the bounds, forward and backward", "", float, double,
                   bfloat16) {
    judge_all<TestType>();
}

namespace {

[[nodiscard]] bool sees(const any_score& s, index_t i, index_t j) {
    return !s.visible({N, N}, position(i), run{position(j), 1, 1}).empty();
}

template <class T>
[[nodiscard]] bool none_finite(const tensor<T>& a, index_t i, index_t h) {
    for (index_t d = 0; d < a.shape().dim; ++d)
        if (std::isfinite(static_cast<float>(a(0, i, h, d)))) return false;
    return true;
}

} // namespace

TEMPLATE_TEST_CASE("NaN and infinity reach the rows that see them and no other", "", float, bfloat16) {
    using T = TestType;
    const input<T> in("");
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::size_t next = 0;
    everywhere<T>([&](const whole_run<T>& run) {
        const index_t probe = static_cast<index_t>(next++ * 5 % N);
        const auto before = run.backward(in.q, in.k, in.v, in.dout);
        const auto lse_before = run.forward(in.q, in.k, in.v).lse;
        for (const float odd : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity})
            for (const bool in_k : {true, false}) {
                INFO(run.name() << ", " << run.kernel.name() << ": " << odd << " in " << (in_k ? "k" : "v")
                                << " of key " << probe);
                auto k = copy_of(in.k), v = copy_of(in.v);
                for (index_t d = 0; d < dim; ++d) (in_k ? k : v)(0, probe, 1, d) = static_cast<T>(odd); // heads 2, 3
                const auto after = run.backward(in.q, k, v, in.dout);
                const auto lse = run.forward(in.q, k, v).lse;
                index_t wrong_rows = 0, wrong_keys = 0;
                for (index_t i = 0; i < N; ++i)
                    for (index_t h = 0; h < heads; ++h) {
                        const bool reached = h >= 2 && sees(run.score, i, probe);
                        if (!reached)
                            wrong_rows += !same_bits(before.out, after.out, i, h) ||
                                          !same_bits(before.dq, after.dq, i, h) || !same_bits(lse_before, lse, i, h);
                        else if (!in_k || std::isnan(odd)) // an infinite key has scores of both infinities, or NaN
                            wrong_rows += !none_finite(after.out, i, h) || !none_finite(after.dq, i, h);
                        if (reached && !in_k) wrong_rows += !same_bits(lse_before, lse, i, h); // it knows of no values
                    }
                for (index_t j = 0; j < N; ++j)
                    for (index_t g = 0; g < kv_heads; ++g) {
                        bool touched = false; // by a row that sees the probe
                        for (index_t i = 0; i < N; ++i)
                            touched |= g == 1 && sees(run.score, i, j) && sees(run.score, i, probe);
                        if (!touched)
                            wrong_keys +=
                                !same_bits(before.dk, after.dk, j, g) || !same_bits(before.dv, after.dv, j, g);
                        else if (std::isnan(odd))
                            wrong_keys += !none_finite(after.dk, j, g);
                        if (touched && !in_k) wrong_keys += !same_bits(before.dv, after.dv, j, g); // dv = P^T dout
                    }
                if (wrong_rows + wrong_keys == 0) continue;
                CHECK(wrong_rows == 0);
                CHECK(wrong_keys == 0);
            }
    });
    SUCCEED();
}
