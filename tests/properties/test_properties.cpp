/// Properties that attention has whatever computes it: which key reaches which row, linearity, invariance. They need no
/// oracle, and no tolerance hides a defect from them.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/same_bits.hpp>

#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};

[[nodiscard]] std::vector<any_score> masks() {
    return {full{}, causal{}, sliding_window{5, 2},
            any_score(causal{}) & documents{std::vector<index_t>{0, 4, 4, 13, 17}}};
}

[[nodiscard]] bool sees(const any_score& s, index_t n, index_t i, index_t j) {
    return !s.visible({n, n}, position(i), run{position(j), 1, 1}).empty();
}

/// Calls f(run) for every strategy and layout, with a score that changes from one to the next.
template <class T = float, class F>
void everywhere(const F& f) {
    const std::vector<any_score> scores = masks();
    std::size_t n = 0;
    for (const int ranks : {1, 2, 3, 4, 5, 7, 8})
        for (const auto& strategy : all_strategies<thread_communicator>(ranks))
            for (const any_layout& layout : layouts)
                f(whole_run<T>{strategy, ranks, scores[n++ % scores.size()], layout});
}

/// A row whose softmax is over at least two keys: over one it is 1 whatever the score.
[[nodiscard]] index_t seen_by(const any_score& s, index_t n, index_t i) {
    index_t count = 0;
    for (index_t j = 0; j < n; ++j) count += sees(s, n, i, j);
    return count;
}

constexpr index_t N = 19;

} // namespace

TEST_CASE("a leak probe: a token that is changed changes exactly the rows that may see it") {
    std::size_t next = 0;
    everywhere([&](const whole_run<float>& run) {
        INFO(run.name());
        const auto q = normal<float>({1, N, 4, 8}, 1), k = normal<float>({1, N, 2, 8}, 2),
                   v = normal<float>({1, N, 2, 8}, 3), dout = normal<float>({1, N, 4, 8}, 4);
        const index_t probe = static_cast<index_t>(next++ * 7 % N);
        auto other_k = copy_of(k), other_v = copy_of(v), other_dout = copy_of(dout);
        for (index_t d = 0; d < 8; ++d) {
            other_k(0, probe, 1, d) += 1; // of the second kv head, which heads 2 and 3 read
            other_v(0, probe, 1, d) -= 3;
            other_dout(0, probe, 1, d) += 2; // of head 1, which reads the first kv head
        }
        const auto before = run.backward(q, k, v, dout), keys = run.backward(q, other_k, other_v, dout),
                   rows = run.backward(q, k, v, other_dout);
        index_t wrong = 0;
        for (index_t i = 0; i < N; ++i)
            for (index_t h = 0; h < 4; ++h) {
                const bool reached = h >= 2 && sees(run.score, N, i, probe);
                wrong += same_bits(before.out, keys.out, i, h) == reached;
                // the softmax of a single key is 1, and has no gradient
                if (!reached || seen_by(run.score, N, i) > 1) wrong += same_bits(before.dq, keys.dq, i, h) == reached;
                if (i != probe || h != 1 || seen_by(run.score, N, i) > 1)
                    wrong += same_bits(before.dq, rows.dq, i, h) == (h == 1 && i == probe);
            }
        for (index_t j = 0; j < N; ++j) {
            wrong += same_bits(before.dv, rows.dv, j, 0) == sees(run.score, N, probe, j);
            wrong += !same_bits(before.dv, rows.dv, j, 1) || !same_bits(before.dk, rows.dk, j, 1);
        }
        CHECK(wrong == 0);
    });
}

TEST_CASE("one-hot V: the output is the weights, positive where the row sees and zero where it does not") {
    everywhere<double>([&](const whole_run<double>& run) {
        INFO(run.name());
        const auto q = normal<double>({1, N, 3, 4}, 1), k = normal<double>({1, N, 3, 4}, 2);
        tensor<double> v({1, N, 3, N});
        for (index_t j = 0; j < N; ++j)
            for (index_t h = 0; h < 3; ++h) v(0, j, h, j) = 1;
        const auto r = run.forward(q, k, v);
        index_t wrong = 0;
        for (index_t i = 0; i < N; ++i)
            for (index_t h = 0; h < 3; ++h) {
                double sum = 0;
                for (index_t j = 0; j < N; ++j) {
                    const double weight = r.out(0, i, h, j);
                    wrong += (weight > 0) != sees(run.score, N, i, j);
                    sum += weight;
                }
                wrong += std::abs(sum - (seen_by(run.score, N, i) > 0 ? 1 : 0)) > 1e-14;
            }
        CHECK(wrong == 0);
    });
}

TEST_CASE("attention is linear in V, and its gradients are linear in dout") {
    everywhere<double>([&](const whole_run<double>& run) {
        INFO(run.name());
        const auto q = normal<double>({1, N, 4, 5}, 1), k = normal<double>({1, N, 2, 5}, 2),
                   v = normal<double>({1, N, 2, 3}, 3), w = normal<double>({1, N, 2, 3}, 4),
                   dout = normal<double>({1, N, 4, 3}, 5), more = normal<double>({1, N, 4, 3}, 6);
        auto vw = copy_of(v);
        auto both = copy_of(dout);
        for (index_t n = 0; n < vw.shape().count(); ++n) vw.data()[n] += 2 * w.data()[n];
        for (index_t n = 0; n < both.shape().count(); ++n) both.data()[n] -= 3 * more.data()[n];
        const auto a = run.backward(q, k, v, dout), b = run.backward(q, k, v, more), c = run.backward(q, k, v, both);
        const auto of_w = run.forward(q, k, w), of_vw = run.forward(q, k, vw);
        double worst = 0;
        const auto differ = [&](const tensor<double>& x, const tensor<double>& y, double factor,
                                const tensor<double>& sum) {
            double size = 0;
            for (index_t n = 0; n < x.shape().count(); ++n) {
                worst = std::max(worst, std::abs(x.data()[n] + factor * y.data()[n] - sum.data()[n]));
                size = std::max(size, std::abs(sum.data()[n]));
            }
            CHECK(size > 0.1); // not a test of zeros
        };
        differ(a.out, of_w.out, 2, of_vw.out);
        differ(a.dq, b.dq, -3, c.dq);
        differ(a.dk, b.dk, -3, c.dk);
        differ(a.dv, b.dv, -3, c.dv);
        CHECK(worst < 1e-13);
    });
}

TEST_CASE("keys that are all shifted alike change nothing, so their gradients add up to zero") {
    everywhere<double>([&](const whole_run<double>& run) {
        INFO(run.name());
        const auto q = normal<double>({1, N, 4, 5}, 1), k = normal<double>({1, N, 4, 5}, 2),
                   v = normal<double>({1, N, 4, 3}, 3), dout = normal<double>({1, N, 4, 3}, 5);
        auto shifted = copy_of(k);
        for (index_t j = 0; j < N; ++j)
            for (index_t h = 0; h < 4; ++h)
                for (index_t d = 0; d < 5; ++d) shifted(0, j, h, d) += 0.5 * static_cast<double>(d - h);
        const auto a = run.backward(q, k, v, dout), b = run.backward(q, shifted, v, dout);
        double worst = 0, largest = 0;
        for (index_t n = 0; n < a.out.shape().count(); ++n)
            worst = std::max(worst, std::abs(a.out.data()[n] - b.out.data()[n]));
        for (index_t h = 0; h < 4; ++h)
            for (index_t d = 0; d < 5; ++d) {
                double sum = 0;
                for (index_t j = 0; j < N; ++j) {
                    sum += a.dk(0, j, h, d);
                    largest = std::max(largest, std::abs(a.dk(0, j, h, d)));
                }
                worst = std::max(worst, std::abs(sum));
            }
        CHECK(worst < 1e-13);
        CHECK(largest > 0.1);
    });
}

TEST_CASE("heads that change places take their results along, bit for bit") {
    constexpr index_t groups = 3, group = 2;
    const std::vector<index_t> order{2, 0, 1}; // of the kv heads, each with its query heads
    const auto permuted = [&](const tensor<float>& x, index_t each) {
        tensor<float> y(x.shape());
        for (index_t g = 0; g < groups; ++g)
            copy(x.view().heads(order[static_cast<std::size_t>(g)] * each, each), y.view().heads(g * each, each));
        return y;
    };
    everywhere([&](const whole_run<float>& run) {
        // Which of keys and queries travels, and so the order of a row's sums, may differ from one share of heads to another.
        if (run.strategy.name().find("/ring:pass=auto") != std::string::npos) return;
        INFO(run.name());
        const auto q = normal<float>({2, N, groups * group, 8}, 1), k = normal<float>({2, N, groups, 8}, 2),
                   v = normal<float>({2, N, groups, 8}, 3), dout = normal<float>({2, N, groups * group, 8}, 4);
        const auto a = run.backward(q, k, v, dout),
                   b = run.backward(permuted(q, group), permuted(k, 1), permuted(v, 1), permuted(dout, group));
        CHECK(same_bits(permuted(a.out, group), b.out));
        CHECK(same_bits(permuted(a.dq, group), b.dq));
        // Of a kv head whose query heads two ranks share, the parts of dk and dv are added in another order.
        if (run.strategy.name().find("ulysses") == std::string::npos) {
            CHECK(same_bits(permuted(a.dk, 1), b.dk));
            CHECK(same_bits(permuted(a.dv, 1), b.dv));
        }
    });
}

TEST_CASE("documents that change places take their results and gradients along") {
    const std::vector<index_t> one{0, 5, 12, N}, other{0, 7, 14, N}; // B C A: lengths 7, 7, 5
    const auto rotated = [](const tensor<double>& x) {
        tensor<double> y(x.shape());
        copy(x.view().rows(5, 14), y.view().rows(0, 14));
        copy(x.view().rows(0, 5), y.view().rows(14, 5));
        return y;
    };
    everywhere<double>([&](const whole_run<double>& run) {
        INFO(run.name());
        const auto q = normal<double>({1, N, 4, 5}, 1), k = normal<double>({1, N, 2, 5}, 2),
                   v = normal<double>({1, N, 2, 3}, 3), dout = normal<double>({1, N, 4, 3}, 4);
        whole_run<double> first = run, second = run;
        first.score = any_score(causal{}) & documents{one};
        second.score = any_score(causal{}) & documents{other};
        const auto a = first.backward(q, k, v, dout),
                   b = second.backward(rotated(q), rotated(k), rotated(v), rotated(dout));
        double worst = 0, largest = 0;
        const auto compare = [&](const tensor<double>& x, const tensor<double>& y) {
            for (index_t n = 0; n < x.shape().count(); ++n) {
                worst = std::max(worst, std::abs(x.data()[n] - y.data()[n]));
                largest = std::max(largest, std::abs(x.data()[n]));
            }
        };
        compare(rotated(a.out), b.out);
        compare(rotated(a.dq), b.dq);
        compare(rotated(a.dk), b.dk);
        compare(rotated(a.dv), b.dv);
        CHECK(worst < 1e-13);
        CHECK(largest > 0.5);
    });
}
