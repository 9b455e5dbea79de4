/// @file
/// Gradients through scores that change values, against their definition and finite differences, and what flash promises
/// of them to the bit.

#include "kernel/changed_case.hpp"
#include "support/catch.hpp"
#include <support/pairwise.hpp>

#include <seqpar/core/counted_memory.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/delta.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>

#include <array>

using namespace kernel_test;

namespace {

const std::vector<index_t> dims{1, 3, 16, 64, 80};
const std::vector<index_t> counts{1, 7, 47, 48, 49, 97, 200};
const std::vector<std::array<index_t, 2>> groups{{4, 4}, {4, 2}, {3, 1}, {1, 1}};
const std::array<memory_order, 3> orders{memory_order::bshd, memory_order::bhsd, memory_order::dim_first};

template <class T>
double check(const sizes& n, std::size_t score, memory_order order, int workers, unsigned seed,
             const std::vector<instruction_set>& sets) {
    changed_attention<T> in(n, changed_score(score, n), seed, order);
    const thread_pool pool(workers);
    in.how.executor = pool;
    const auto judge = [&](const auto& kernel) {
        std::string why;
        std::vector<binned_sum> slopes;
        const auto got = differentiate(kernel, in.how, in, slopes);
        const bool right = in.accepts(got, slopes, why);
        INFO(kernel.name() << ' ' << element_traits<T>::name << ' ' << n.text() << ' ' << in.score.name() << " order "
                           << static_cast<int>(order) << " workers " << workers << ": " << why);
        REQUIRE(right);
    };
    for (const instruction_set set : sets) judge(flash{set});
    judge(reference{});
    judge(any_kernel(flash{}));
    return in.worst;
}

template <class... Arguments>
double check_as(std::size_t type, const Arguments&... arguments) {
    return type == 0   ? check<float>(arguments...)
           : type == 1 ? check<double>(arguments...)
                       : check<bfloat16>(arguments...);
}

template <class A>
bool same_row(const tensor<A>& a, const tensor<A>& b, index_t row, index_t h) {
    for (index_t d = 0; d < a.shape().dim; ++d)
        if (std::memcmp(&a(0, row, h, d), &b(0, row, h, d), sizeof(A)) != 0) return false;
    return true;
}

} // namespace

TEST_CASE("flash's gradients through scores that change values are those of the definition, for every pair") {
    const std::vector<instruction_set> sets = targets();
    double worst = 0;
    unsigned seed = 200;
    for (const seqpar::testing::choice& c :
         seqpar::testing::pairwise({sets.size(), 3, dims.size(), dims.size(), counts.size(), counts.size(),
                                    changed_scores_count, groups.size(), 2, orders.size(), 2})) {
        const sizes n{1 + static_cast<index_t>(c[8]),
                      counts[c[4]],
                      counts[c[5]],
                      groups[c[7]][0],
                      groups[c[7]][1],
                      dims[c[2]],
                      dims[c[3]]};
        worst = std::max(worst, check_as(c[1], n, c[6], orders[c[9]], c[10] == 0 ? 1 : 3, ++seed,
                                         std::vector<instruction_set>{sets[c[0]]}));
    }
    CAPTURE(worst);
    CHECK(worst > 1e-2);
}

TEST_CASE("flash's gradients through scores that change values are those of the definition, for all choices",
          "[slow]") {
    unsigned seed = 0;
    for (std::size_t type = 0; type < 3; ++type)
        for (const index_t dim : dims)
            for (const index_t rows : counts)
                for (const index_t keys : counts)
                    for (std::size_t score = 0; score < changed_scores_count; ++score) {
                        const std::size_t i = ++seed;
                        const auto& group = rows * keys > 5000 ? groups[3] : groups[i % groups.size()];
                        check_as(type, sizes{1, rows, keys, group[0], group[1], dim, dims[i % dims.size()]}, score,
                                 orders[i % orders.size()], i % 5 == 0 ? 3 : 1, seed, targets());
                    }
}

TEST_CASE("gradients through scores that change values are those of finite differences") {
    const sizes n{2, 8, 7, 4, 2, 3, 2};
    for (std::size_t which = 0; which < changed_scores_count; ++which) {
        changed_attention<double> in(n, changed_score(which, n), 3);
        std::vector<binned_sum> slopes;
        const auto got = differentiate(flash{}, in.how, in, slopes);
        const auto loss = [&](const any_score& score) {
            partial<double> result = attend(flash{}, in.how, in, score);
            tensor<double> out(n.out()), lse({n.batch, n.rows, n.heads, 1});
            result.finish(out.view(), lse.view());
            double sum = 0;
            for (index_t b = 0; b < n.batch; ++b)
                for (index_t i = 0; i < n.rows; ++i)
                    for (index_t h = 0; h < n.heads; ++h) {
                        for (index_t d = 0; d < n.dim_v; ++d) sum += in.dout(b, i, h, d) * out(b, i, h, d);
                        if (std::isfinite(lse(b, i, h))) sum += in.dlse(b, i, h, 0) * lse(b, i, h);
                    }
            return sum;
        };
        const auto check_all = [&](const char* what, const input<double>& x, const tensor<double>& gradient) {
            const extents e = x.view().shape();
            double size = 0;
            for (index_t b = 0; b < e.batch; ++b)
                for (index_t i = 0; i < e.seq; ++i)
                    for (index_t h = 0; h < e.heads; ++h)
                        for (index_t d = 0; d < e.dim; ++d) {
                            const double kept = x(b, i, h, d), step = 0x1p-16;
                            x(b, i, h, d) = kept + step;
                            const double up = loss(in.score);
                            x(b, i, h, d) = kept - step;
                            const double down = loss(in.score);
                            x(b, i, h, d) = kept;
                            INFO(in.score.name() << ' ' << what << '(' << b << ", " << i << ", " << h << ", " << d);
                            REQUIRE(std::abs(gradient(b, i, h, d) - (up - down) / (2 * step)) < 1e-6);
                            size = std::max(size, std::abs(gradient(b, i, h, d)));
                        }
            CHECK(size > 0.05);
        };
        check_all("dq", in.q, got.dq);
        check_all("dk", in.k, got.dk);
        check_all("dv", in.v, got.dv);
    }
    // The slopes of ALiBi, which the score holds.
    std::vector<double> values{0.5, 0.1, -0.3, 1};
    std::vector<binned_sum> slopes;
    const auto with = [&](const std::vector<double>& s) {
        return causal{alignment::at(3)} & softcap{2} & alibi(s, alignment::bottom_right()) & random_drop{0.2};
    };
    const changed_attention<double> in(n, with(values), 4);
    (void)differentiate(flash{}, in.how, in, slopes);
    for (std::size_t h = 0; h < values.size(); ++h) {
        const auto loss = [&](double step) {
            std::vector<double> moved = values;
            moved[h] += step;
            const changed_attention<double> other(n, with(moved), 4);
            double sum = 0;
            for (std::size_t i = 0; i < other.out.want.size(); ++i) {
                const index_t d = static_cast<index_t>(i) % n.dim_v, row = static_cast<index_t>(i) / n.dim_v;
                sum += in.dout(row / n.heads / n.rows, row / n.heads % n.rows, row % n.heads, d) * other.out.want[i];
            }
            for (std::size_t i = 0; i < other.lse.want.size(); ++i) {
                const index_t row = static_cast<index_t>(i);
                sum += in.dlse(row / n.heads / n.rows, row / n.heads % n.rows, row % n.heads, 0) * other.lse.want[i];
            }
            return sum;
        };
        const double step = 0x1p-16, slope = (loss(step) - loss(-step)) / (2 * step);
        CHECK(std::abs(slope) > 1e-3);
        CHECK(static_cast<double>(slopes[h]) == Approx(slope).epsilon(1e-6));
    }
}

TEMPLATE_TEST_CASE("where a score changes values, workers and shards do not change a bit of the gradients", "", float,
                   double, bfloat16) {
    const sizes n{2, 49, 131, 4, 2, 9, 5};
    for (std::size_t which = 0; which < changed_scores_count; ++which) {
        const changed_attention<TestType> in(n, changed_score(which, n), 23);
        context how = in.how;
        std::vector<binned_sum> slopes, others;
        const auto alone = differentiate(flash{}, how, in, slopes);
        for (const int workers : {2, 3}) {
            const thread_pool pool(workers);
            how.executor = pool;
            INFO(in.score.name() << " workers " << workers);
            CHECK(same_bits(alone, differentiate(flash{}, how, in, others)));
            CHECK(slopes == others);
        }
        how.executor = executor_ref();
        const auto check_shards = [&](const auto& layout, int size) {
            using A = accumulator_t<TestType>;
            gradients<A> result(n);
            std::vector<binned_sum> of_shards(4);
            how.slope_gradients = of_shards;
            const origin rows = in.rows();
            std::vector<origin> at;
            std::vector<tensor<TestType>> k, v;
            std::vector<tensor<A>> dk, dv;
            for (int rank = 0; rank < size; ++rank) {
                at.push_back({layout.positions(rank, size, n.keys), {0, n.kv_heads}});
                k.push_back(take_rows(in.k.view(), at.back().rows));
                v.push_back(take_rows(in.v.view(), at.back().rows));
                dk.emplace_back(k.back().shape());
                dv.emplace_back(v.back().shape());
            }
            std::vector<key_block<TestType>> blocks;
            std::vector<key_gradients<A>> of_blocks;
            for (std::size_t i = 0; i < at.size(); ++i) {
                blocks.push_back({k[i].view(), v[i].view(), at[i]});
                of_blocks.push_back({dk[i].view(), dv[i].view()});
            }
            flash{}.backward(how, block<const TestType>{in.q.view(), rows}, in.of_rows(),
                             std::span<const key_block<TestType>>(blocks), in.score, result.dq.view(),
                             std::span<const key_gradients<A>>(of_blocks));
            for (std::size_t r = 0; r < at.size(); ++r)
                for (index_t i = 0; i < at[r].rows.size(); ++i) {
                    copy(dk[r].view().rows(i, 1), result.dk.view().rows(at[r].rows[i].value, 1));
                    copy(dv[r].view().rows(i, 1), result.dv.view().rows(at[r].rows[i].value, 1));
                }
            INFO(in.score.name() << " ranks " << size);
            CHECK(same_bits(alone, result));
            CHECK(slopes == of_shards);
        };
        check_shards(contiguous{}, 3);
        check_shards(zigzag{}, 2);
        check_shards(striped{}, 7);
    }
}

TEST_CASE("what changes values is asked with the global batch, head and positions in backward") {
    // Query heads 2 to 5 of 8, kv heads 1 and 2 of 4, rows and keys of two runs each, somewhere in a longer sequence.
    const sizes n{2, 60, 210, 4, 2, 20, 24};
    context how = context_of(n);
    how.n = {500, 600};
    const origin rows{{run{position{90}, 1, 10}, run{position{200}, 2, 50}}, {2, 4}};
    const origin keys{{run{position{400}, 1, 40}, run{position{50}, 2, 170}}, {1, 2}};
    const alibi slopes = alibi::geometric(8);
    const attention_input<double> in(n, 5);
    const input<double> dout(n.out(), memory_order::bshd, 6);
    const key_block<double> block_of_keys{in.k.view(), in.v.view(), keys};
    const std::span<const key_block<double>> list(&block_of_keys, 1);
    const block<const double> q{in.q.view(), rows};
    for (const any_score& score :
         std::vector<any_score>{slopes, random_bias{0.3} & random_drop{0.3}, causal{} & softcap{1} & slopes,
                                documents<>({0, 95, 320, 500}, {0, 60, 420, 600}) & random_bias{0.3} & slopes}) {
        partial<double> forward(n.out());
        reference{}.forward(how, q, list, score, forward);
        tensor<double> out(n.out()), lse({2, n.rows, n.heads, 1}), delta({2, n.rows, n.heads, 1});
        forward.finish(out.view(), lse.view());
        row_delta<double>(out.view(), dout.view(), {}, delta.view());
        const auto run_with = [&](const auto& kernel, std::vector<binned_sum>& of_slopes) {
            gradients<double> result(n);
            of_slopes.assign(8, binned_sum(0.25)); // added to
            how.slope_gradients = of_slopes;
            const key_gradients<double> of_keys{result.dk.view(), result.dv.view()};
            kernel.backward(how, q, row_gradients<double>{dout.view(), lse.view(), delta.view()}, list, score,
                            result.dq.view(), std::span<const key_gradients<double>>(&of_keys, 1));
            return result;
        };
        std::vector<binned_sum> want_slopes, got_slopes;
        const gradients<double> want = run_with(reference{}, want_slopes);
        for (const instruction_set set : targets()) {
            const gradients<double> got = run_with(flash{set}, got_slopes);
            const auto check_same = [&](const tensor<double>& a, const tensor<double>& b) {
                double worst = 0, size = 0;
                for (index_t i = 0; i < a.shape().count(); ++i) {
                    worst = std::max(worst, std::abs(a.data()[i] - b.data()[i]));
                    size = std::max(size, std::abs(a.data()[i]));
                }
                CHECK(worst < 1e-12);
                CHECK(size > 0.05);
            };
            INFO(to_string(set) << ' ' << score.name());
            check_same(want.dq, got.dq);
            check_same(want.dk, got.dk);
            check_same(want.dv, got.dv);
            for (std::size_t h = 0; h < 8; ++h) {
                CHECK(static_cast<double>(got_slopes[h]) == Approx(static_cast<double>(want_slopes[h])).epsilon(1e-10));
                CHECK((static_cast<double>(got_slopes[h]) != 0.25) == (slopes_of(score) > 0 && 2 <= h && h < 6));
            }
        }
        // Not wanted: nothing else changes.
        const gradients<double> with = run_with(flash{}, got_slopes);
        how.slope_gradients = {};
        gradients<double> without(n);
        const key_gradients<double> of_keys{without.dk.view(), without.dv.view()};
        flash{}.backward(how, q, row_gradients<double>{dout.view(), lse.view(), delta.view()}, list, score,
                         without.dq.view(), std::span<const key_gradients<double>>(&of_keys, 1));
        CHECK(same_bits(with, without));
    }
}

TEMPLATE_TEST_CASE("NaN of what a score hides or drops does not reach the gradients of the other side", "", float,
                   double, bfloat16) {
    const sizes n{1, 60, 150, 2, 1, 20, 12};
    const TestType nan = static_cast<TestType>(std::numeric_limits<float>::quiet_NaN());
    std::vector<binned_sum> slopes;
    for (const any_score& score : std::vector<any_score>{
             random_bias{0.5}, causal{alignment::bottom_right()} & random_bias{0.3} & random_drop{0.4},
             random_drop{0.5} & softcap{2}}) {
        changed_attention<TestType> in(n, score, 24);
        const auto table = [&](const auto& holds) { // asked often, and slow to answer
            std::vector<char> all;
            for (index_t h = 0; h < n.heads; ++h)
                for (index_t i = 0; i < n.rows; ++i)
                    for (index_t j = 0; j < n.keys; ++j) all.push_back(holds(in.how, score, 0, h, i, j));
            return [all = std::move(all), n](index_t h, index_t i, index_t j) {
                return all[static_cast<std::size_t>((h * n.rows + i) * n.keys + j)] != 0;
            };
        };
        const auto sees = table(sees_key), keeps = table(keeps_key);
        for (const instruction_set set : targets()) {
            const auto clean = differentiate(flash{set}, in.how, in, slopes);
            INFO(to_string(set) << ' ' << score.name());
            const auto spoilt = [&](TestType& place) {
                const TestType kept = place;
                place = nan;
                auto got = differentiate(flash{set}, in.how, in, slopes);
                place = kept;
                return got;
            };
            for (const index_t bad : {0, 47, 149}) {
                const auto bad_k = spoilt(in.k(0, bad, 0, 3)), bad_v = spoilt(in.v(0, bad, 0, 3));
                bool untouched = true, reached = true;
                for (index_t i = 0; i < n.rows; ++i)
                    for (index_t h = 0; h < n.heads; ++h) {
                        if (sees(h, i, bad))
                            reached = reached && std::isnan(bad_k.dq(0, i, h, 0));
                        else
                            untouched = untouched && same_row(clean.dq, bad_k.dq, i, h);
                        if (keeps(h, i, bad))
                            reached = reached && std::isnan(bad_v.dq(0, i, h, 0));
                        else
                            untouched = untouched && same_row(clean.dq, bad_v.dq, i, h);
                    }
                for (index_t j = 0; j < n.keys; ++j) {
                    if (j == bad) continue;
                    untouched = untouched && same_row(clean.dk, bad_k.dk, j, 0) && same_row(clean.dv, bad_k.dv, j, 0) &&
                                same_row(clean.dk, bad_v.dk, j, 0) && same_row(clean.dv, bad_v.dv, j, 0);
                }
                CHECK(untouched);
                CHECK(reached);
            }
            for (const index_t bad : {5, 59}) {
                const auto bad_q = spoilt(in.q(0, bad, 1, 3)), bad_dout = spoilt(in.dout(0, bad, 1, 3));
                bool untouched = true, reached = true;
                for (index_t i = 0; i < n.rows; ++i)
                    for (index_t h = 0; h < n.heads; ++h)
                        if (i != bad || h != 1)
                            untouched = untouched && same_row(clean.dq, bad_q.dq, i, h) &&
                                        same_row(clean.dq, bad_dout.dq, i, h);
                int hidden = 0;
                for (index_t j = 0; j < n.keys; ++j) {
                    hidden += keeps(1, bad, j) ? 0 : 1;
                    if (sees(1, bad, j))
                        reached = reached && std::isnan(bad_q.dk(0, j, 0, 0));
                    else
                        untouched = untouched && same_row(clean.dk, bad_q.dk, j, 0);
                    if (keeps(1, bad, j))
                        reached = reached && std::isnan(bad_q.dv(0, j, 0, 0)) && std::isnan(bad_dout.dv(0, j, 0, 3)) &&
                                  std::isnan(bad_dout.dk(0, j, 0, 0));
                    else
                        untouched = untouched && same_row(clean.dv, bad_q.dv, j, 0) &&
                                    same_row(clean.dk, bad_dout.dk, j, 0) && same_row(clean.dv, bad_dout.dv, j, 0);
                }
                CHECK(hidden > 20);
                auto& lse = in.lse_given(0, bad, 1);
                const auto kept = lse;
                lse = std::numeric_limits<accumulator_t<TestType>>::quiet_NaN();
                const auto bad_lse = differentiate(flash{set}, in.how, in, slopes);
                lse = kept;
                for (index_t j = 0; j < n.keys; ++j)
                    if (sees(1, bad, j))
                        reached = reached && std::isnan(bad_lse.dk(0, j, 0, 0));
                    else
                        untouched =
                            untouched && same_row(clean.dk, bad_lse.dk, j, 0) && same_row(clean.dv, bad_lse.dv, j, 0);
                CHECK(untouched);
                CHECK(reached);
            }
        }
    }
}

TEST_CASE("the scratch is the same whatever the score does") {
    const sizes n{1, 50, 130, 2, 1, 6, 9};
    const std::vector<positions> keys{positions::whole(n.keys)};
    for (std::size_t which = 0; which < changed_scores_count; ++which) {
        const changed_attention<float> in(n, changed_score(which, n), 29);
        for (const int workers : {1, 3}) {
            const thread_pool pool(workers);
            counted_memory memory;
            context how = in.how;
            how.executor = pool;
            how.memory = &memory;
            std::vector<binned_sum> slopes;
            (void)differentiate(flash{}, how, in, slopes);
            CHECK(memory.peak() == flash{}.backward_workspace_bytes<float>(n.q(), n.v(), keys, workers));
            memory.reset_peak();
            (void)attend(flash{}, how, in, in.score);
            CHECK(memory.peak() == flash{}.workspace_bytes<float>(n.q(), n.v(), keys, workers));
            CHECK(memory.held() == 0);
        }
    }
}

namespace {

struct steps : full {
    static constexpr bool forward_only = true;
    [[nodiscard]] score_stages stages() const { return bit(score_stage::function); }
    template <class E>
    void modify(score_stage, const score_row&, std::span<E> x, std::span<E>) const {
        for (E& value : x) value = std::floor(value);
    }
    [[nodiscard]] std::string name() const { return "steps"; }
};
static_assert(score<steps> && !differentiable_score<steps>);

} // namespace

TEST_CASE("a score without derivative goes forward, and backward refuses it, whoever works") {
    const sizes n{1, 60, 250, 2, 1, 8, 8};
    const changed_attention<float> in(n, softcap{2}, 30);
    context how = in.how;
    const auto a = attend(flash{}, how, in, steps{}), b = attend(reference{}, how, in, steps{});
    CHECK(a.sum()(0, 3, 1) > 0);
    CHECK(std::abs(a.acc()(0, 3, 1, 2) / a.sum()(0, 3, 1) - b.acc()(0, 3, 1, 2) / b.sum()(0, 3, 1)) < 1e-3F);
    for (const int workers : {1, 3}) {
        const thread_pool pool(workers);
        how.executor = pool;
        changed_attention<float> other(n, softcap{2}, 30);
        other.score = steps{};
        std::vector<binned_sum> slopes;
        std::string message;
        try {
            (void)differentiate(flash{}, how, other, slopes);
        } catch (const refusal& why) {
            message = why.what();
        }
        CHECK(message.find("steps has no derivative") != std::string::npos);
    }
}
