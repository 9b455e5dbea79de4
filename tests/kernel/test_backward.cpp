/// @file
/// backward of every kernel against gradients written from the definition, and those against finite differences.

#include "kernel/gradient_case.hpp"
#include "support/catch.hpp"
#include "support/naive.hpp"
#include <support/pairwise.hpp>

#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/delta.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <array>

using namespace kernel_test;

namespace {

const std::vector<index_t> dims{1, 3, 16, 64, 80, 128};
const std::vector<index_t> counts{1, 7, 23, 47, 48, 49, 97, 257};

const std::vector<any_score>& scores() {
    static const std::vector<any_score> all{full{},
                                            causal{},
                                            causal{alignment::bottom_right()},
                                            causal{alignment::at(-9)},
                                            sliding_window{7, 12},
                                            sliding_window{60, 0, alignment::bottom_right()},
                                            causal{alignment::at(40)} &
                                                sliding_window{0, sliding_window::open, alignment::at(3)}};
    return all;
}

const std::vector<std::array<index_t, 2>> groups{{4, 4}, {4, 2}, {3, 1}, {1, 1}};
const std::array<memory_order, 3> orders{memory_order::bshd, memory_order::bhsd, memory_order::dim_first};

template <class K, class T>
void check(const K& kernel, const context& how, const gradient_input<T>& in, const any_score& score,
           gradient_judge& judge) {
    std::string why;
    const bool right = judge.accepts(differentiate(kernel, how, in, score), in, why);
    INFO(kernel.name() << ' ' << element_traits<T>::name << ' ' << in.n.text() << ' ' << score.name() << ": " << why);
    REQUIRE(right);
}

template <class T>
void check(const sizes& n, const any_score& score, memory_order order, int workers, unsigned seed,
           const std::vector<instruction_set>& sets, gradient_judge& judge) {
    context how = context_of(n);
    const thread_pool pool(workers);
    how.executor = pool;
    const gradient_input<T> in(n, how, score, seed, order);
    for (const instruction_set set : sets) check(flash{set}, how, in, score, judge);
}

template <class... Arguments>
void check_as(std::size_t type, Arguments&&... arguments) {
    if (type == 0) check<float>(arguments...);
    if (type == 1) check<double>(arguments...);
    if (type == 2) check<bfloat16>(arguments...);
}

/// sum(dout out) + sum(dlse lse), by the naive forward.
long double loss(const gradient_input<double>& in, const context& how, const any_score& score) {
    const run all{position{0}, 1, in.n.keys};
    const auto result = seqpar::testing::naive_attention<double>(
        in.q.view(), in.k.view(), in.v.view(), how.scale, [&](index_t i, index_t j) {
            const interval seen = score.visible(how.n, position{i}, all);
            return seen.first <= j && j < seen.last;
        });
    long double sum = 0;
    std::size_t at = 0, row = 0;
    for (index_t b = 0; b < in.n.batch; ++b)
        for (index_t i = 0; i < in.n.rows; ++i)
            for (index_t h = 0; h < in.n.heads; ++h, ++row) {
                for (index_t d = 0; d < in.n.dim_v; ++d)
                    sum += result.out[at++] * static_cast<long double>(in.dout.view()(b, i, h, d));
                if (std::isfinite(result.lse[row]))
                    sum += result.lse[row] * static_cast<long double>(in.dlse.view()(b, i, h, 0));
            }
    return sum;
}

} // namespace

TEST_CASE("the definition's gradients are those of finite differences") {
    const sizes n{2, 5, 6, 4, 2, 3, 2};
    for (const any_score& score :
         std::vector<any_score>{full{}, causal{}, causal{alignment::at(-2)}, sliding_window{1, 2}}) {
        context how = context_of(n);
        how.scale = 0.8;
        const gradient_input<double> in(n, how, score, 3);
        const gradients<double> got = differentiate(reference{}, how, in, score);
        const auto check_all = [&](const char* what, const input<double>& x, const tensor<double>& gradient) {
            const extents e = x.view().shape();
            for (index_t b = 0; b < e.batch; ++b)
                for (index_t i = 0; i < e.seq; ++i)
                    for (index_t h = 0; h < e.heads; ++h)
                        for (index_t d = 0; d < e.dim; ++d) {
                            const double kept = x(b, i, h, d), step = 0x1p-13;
                            x(b, i, h, d) = kept + step;
                            const long double up = loss(in, how, score);
                            x(b, i, h, d) = kept - step;
                            const long double down = loss(in, how, score);
                            x(b, i, h, d) = kept;
                            const double slope = static_cast<double>((up - down) / (2 * step));
                            INFO(score.name() << ' ' << what << '(' << b << ", " << i << ", " << h << ", " << d << ')');
                            REQUIRE(std::abs(gradient(b, i, h, d) - slope) < 1e-6);
                        }
            double size = 0;
            for (index_t i = 0; i < e.count(); ++i) size = std::max(size, std::abs(gradient.data()[i]));
            CHECK(size > 0.1);
        };
        check_all("dq", in.q, got.dq);
        check_all("dk", in.k, got.dk);
        check_all("dv", in.v, got.dv);
    }
}

TEMPLATE_TEST_CASE("the definition's gradients are the naive ones", "", float, double, bfloat16) {
    gradient_judge judge;
    unsigned seed = 40;
    for (const any_score& score : scores())
        for (const auto& [heads, kv_heads] : groups) {
            const sizes n{2, 31, 45, heads, kv_heads, 12, 7};
            const context how = context_of(n);
            const gradient_input<TestType> in(n, how, score, seed, orders[seed % 3]);
            ++seed;
            check(reference{}, how, in, score, judge);
        }
    CHECK(judge.worst > 1e-2);
}

TEST_CASE("flash's gradients are the naive ones for every pair of choices") {
    const std::vector<instruction_set> sets = targets();
    gradient_judge judge;
    unsigned seed = 0;
    for (const seqpar::testing::choice& c :
         seqpar::testing::pairwise({sets.size(), 3, dims.size(), dims.size(), counts.size(), counts.size(),
                                    scores().size(), groups.size(), 2, orders.size(), 2})) {
        const sizes n{1 + static_cast<index_t>(c[8]),
                      counts[c[4]],
                      counts[c[5]],
                      groups[c[7]][0],
                      groups[c[7]][1],
                      dims[c[2]],
                      dims[c[3]]};
        check_as(c[1], n, scores()[c[6]], orders[c[9]], c[10] == 0 ? 1 : 3, ++seed,
                 std::vector<instruction_set>{sets[c[0]]}, judge);
    }
    CAPTURE(judge.worst);
    CHECK(judge.worst > 1e-2); // a bound that nothing comes near would hide a defect
}

TEST_CASE("flash's gradients are the naive ones for all choices", "[slow]") {
    gradient_judge judge;
    unsigned seed = 0;
    for (std::size_t type = 0; type < 3; ++type)
        for (const index_t dim : dims)
            for (const index_t rows : counts)
                for (const index_t keys : counts)
                    for (const any_score& score : scores()) {
                        const std::size_t i = ++seed;
                        const auto& group = rows * keys > 3000 ? groups[3] : groups[i % groups.size()];
                        check_as(
                            type,
                            sizes{1, rows, keys, group[0], group[1], dim, i % 3 == 0 ? dims[i % dims.size()] : dim},
                            score, orders[i % orders.size()], 1, seed, targets(), judge);
                    }
}

TEMPLATE_TEST_CASE("the bounds tell a mutant apart", "", float, double) {
    const sizes n{1, 60, 130, 4, 2, 32, 24};
    const context how = context_of(n);
    for (const any_score& score : std::vector<any_score>{full{}, causal{alignment::bottom_right()}}) {
        gradient_judge judge;
        std::string why;
        gradient_input<TestType> in(n, how, score, 17);
        CHECK(judge.accepts(differentiate(flash{}, how, in, score), in, why));

        const auto scaled = [&](double by, double of_dq, double of_dk) {
            gradients<TestType> result = differentiate(flash{}, how, in, score);
            for (index_t i = 0; i < n.q().count(); ++i) result.dq.data()[i] *= static_cast<TestType>(of_dq);
            for (index_t i = 0; i < n.k().count(); ++i) result.dk.data()[i] *= static_cast<TestType>(of_dk);
            for (index_t i = 0; i < n.v().count(); ++i) result.dv.data()[i] *= static_cast<TestType>(by);
            return result;
        };
        CHECK(!judge.accepts(scaled(1, 1 / how.scale, 1), in, why)); // the scale is missing
        CHECK(!judge.accepts(scaled(1, 1, 1 / how.scale), in, why));
        CHECK(!judge.accepts(scaled(1, 1, 1.001), in, why));
        CHECK(!judge.accepts(scaled(1.001, 1, 1), in, why));
        CHECK(!judge.accepts(scaled(2, 1, 1), in, why)); // counted once for each rank

        // Another kv head, another group, delta forgotten, dlse forgotten, one key more.
        context wrong = how;
        wrong.group = 4;
        CHECK(!judge.accepts(differentiate(flash{}, wrong, in, score), in, why));
        const tensor<TestType> delta = take_rows(in.delta.view(), positions::whole(n.rows));
        for (index_t i = 0; i < n.rows * n.heads; ++i) in.delta.data()[i] = 0;
        CHECK(!judge.accepts(differentiate(flash{}, how, in, score), in, why));
        for (index_t i = 0; i < n.rows; ++i)
            for (index_t h = 0; h < n.heads; ++h)
                in.delta(0, i, h) = delta(0, i, h) + static_cast<TestType>(in.dlse(0, i, h, 0));
        CHECK(!judge.accepts(differentiate(flash{}, how, in, score), in, why));
        copy(tensor_view<const TestType>(delta.view()), in.delta.view());
        CHECK(judge.accepts(differentiate(flash{}, how, in, score), in, why));
        CHECK(!judge.accepts(differentiate(flash{}, how, in, causal{alignment::at(71)}), in, why));
    }
}

TEMPLATE_TEST_CASE("large scores have small gradients, and right ones", "", float, double) {
    const sizes n{1, 70, 150, 1, 1, 64, 16};
    const context how = context_of(n);
    gradient_judge judge;
    const gradient_input<TestType> in(n, how, full{}, 18, memory_order::bshd, 12); // scores of about 1,000
    for (const instruction_set set : targets()) check(flash{set}, how, in, full{}, judge);
    check(reference{}, how, in, full{}, judge);
}

TEST_CASE("scale, positions and head offsets of backward are those of the context") {
    // Query heads 2 to 5 of 8, kv heads 1 and 2 of 4, rows and keys of two runs each, somewhere in a longer sequence.
    const sizes n{1, 60, 210, 4, 2, 20, 24};
    context how = context_of(n);
    how.scale = -0.2;
    how.n = {500, 600};
    const origin rows{{run{position{90}, 1, 10}, run{position{200}, 2, 50}}, {2, 4}};
    const origin keys{{run{position{400}, 1, 40}, run{position{50}, 2, 170}}, {1, 2}};
    for (const any_score& score :
         std::vector<any_score>{full{}, causal{}, sliding_window{60, 100}, causal{alignment::bottom_right()}}) {
        const attention_input<double> in(n, 5);
        const input<double> dout(n.out(), memory_order::bshd, 6);
        const key_block<double> block_of_keys{in.k.view(), in.v.view(), keys};
        const std::span<const key_block<double>> list(&block_of_keys, 1);
        const block<const double> q{in.q.view(), rows};
        partial<double> forward(n.out());
        reference{}.forward(how, q, list, score, forward);
        tensor<double> out(n.out()), lse({1, n.rows, n.heads, 1}), delta({1, n.rows, n.heads, 1});
        forward.finish(out.view(), lse.view());
        row_delta<double>(out.view(), dout.view(), {}, delta.view());
        const auto run_with = [&](const auto& kernel) {
            gradients<double> result(n);
            const key_gradients<double> of_keys{result.dk.view(), result.dv.view()};
            kernel.backward(how, q, row_gradients<double>{dout.view(), lse.view(), delta.view()}, list, score,
                            result.dq.view(), std::span<const key_gradients<double>>(&of_keys, 1));
            return result;
        };
        const gradients<double> want = run_with(reference{});
        for (const instruction_set set : targets()) {
            const gradients<double> got = run_with(flash{set});
            const auto differs = [](const tensor<double>& a, const tensor<double>& b, double& size) {
                double worst = 0;
                size = 0;
                for (index_t i = 0; i < a.shape().count(); ++i) {
                    worst = std::max(worst, std::abs(a.data()[i] - b.data()[i]));
                    size = std::max(size, std::abs(a.data()[i]));
                }
                return worst;
            };
            INFO(to_string(set) << ' ' << score.name());
            double size = 0;
            CHECK(differs(want.dq, got.dq, size) < 1e-12);
            CHECK(size > 0.05);
            CHECK(differs(want.dk, got.dk, size) < 1e-12);
            CHECK(size > 0.05);
            CHECK(differs(want.dv, got.dv, size) < 1e-12);
            CHECK(size > 0.05);
        }
    }
}

TEST_CASE("row_delta is the sum of dout out, less what flows into lse") {
    const extents e{2, 5, 3, 7}, per_row{2, 5, 3, 1};
    for (const memory_order order : orders) {
        const input<float> out(e, order, 1), dout(e, memory_order::bshd, 2), dlse(per_row, order, 3);
        tensor<float> with(per_row), without(per_row);
        row_delta<float>(out.view(), dout.view(), dlse.view(), with.view());
        row_delta<float>(out.view(), dout.view(), {}, without.view());
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                for (index_t h = 0; h < e.heads; ++h) {
                    double sum = 0;
                    for (index_t d = 0; d < e.dim; ++d) sum += double{out(b, i, h, d)} * double{dout(b, i, h, d)};
                    CHECK(without(b, i, h) == Approx(sum).margin(1e-6));
                    CHECK(with(b, i, h) == Approx(sum - double{dlse(b, i, h, 0)}).margin(1e-6));
                }
    }
    const input<bfloat16> out(e, memory_order::bhsd, 4), dout(e, memory_order::dim_first, 5);
    tensor<float> delta(per_row);
    row_delta<bfloat16>(out.view(), dout.view(), {}, delta.view());
    float sum = 0;
    for (index_t d = 0; d < e.dim; ++d)
        sum += static_cast<float>(out(1, 4, 2, d)) * static_cast<float>(dout(1, 4, 2, d));
    CHECK(delta(1, 4, 2) == Approx(sum));
}

namespace {

struct no_backward {
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        reference{}.forward(how, q, keys, s, into);
    }
    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                              int workers) const {
        return reference{}.workspace_bytes<T>(q, v, keys, workers);
    }
    [[nodiscard]] std::string name() const { return "no_backward"; }
};

} // namespace

TEMPLATE_TEST_CASE("a kernel chosen at run time has its backward", "", float, double, bfloat16) {
    const sizes n{1, 20, 50, 2, 1, 16, 8};
    const context how = context_of(n);
    const any_score score = causal{alignment::bottom_right()};
    const gradient_input<TestType> in(n, how, score, 19);
    CHECK(same_bits(differentiate(any_kernel(flash{}), how, in, score), differentiate(flash{}, how, in, score)));
    CHECK(
        same_bits(differentiate(any_kernel(reference{}), how, in, score), differentiate(reference{}, how, in, score)));
    const std::vector<positions> keys{positions::whole(n.keys)};
    CHECK(any_kernel(flash{}).backward_workspace_bytes<TestType>(n.q(), n.v(), keys, 2) ==
          flash{}.backward_workspace_bytes<TestType>(n.q(), n.v(), keys, 2));
    CHECK(any_kernel(no_backward{}).backward_workspace_bytes<TestType>(n.q(), n.v(), keys, 2) == 0);
    std::string message;
    try {
        (void)differentiate(any_kernel(no_backward{}), how, in, score);
    } catch (const refusal& why) {
        message = why.what();
    }
    CHECK(message.find("no_backward has no backward") != std::string::npos);
}
