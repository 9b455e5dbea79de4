/// @file
/// flash with scores that change values, against their definition, and what it promises of them to the bit.

#include "kernel/changed_case.hpp"
#include "support/catch.hpp"
#include <support/pairwise.hpp>

#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>

#include <array>

using namespace kernel_test;

namespace {

const std::vector<index_t> dims{1, 3, 16, 64, 80};
const std::vector<index_t> counts{1, 7, 24, 25, 47, 97, 200};
const std::vector<std::array<index_t, 2>> groups{{4, 4}, {4, 2}, {3, 1}, {1, 1}};
const std::array<memory_order, 3> orders{memory_order::bshd, memory_order::bhsd, memory_order::dim_first};

/// One attention with every given instruction set; the largest error / bound.
template <class T>
double check(const sizes& n, std::size_t score, memory_order order, int workers, unsigned seed,
             const std::vector<instruction_set>& sets, double spread = 1) {
    changed_attention<T> in(n, changed_score(score, n), seed, order, spread);
    const thread_pool pool(workers);
    in.how.executor = pool;
    const auto judge = [&](const auto& kernel) {
        std::string why;
        const bool right = in.accepts(attend(kernel, in.how, in, in.score), why);
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
bool same_row(const partial<A>& a, index_t row, const partial<A>& b, index_t other, index_t heads_of = -1) {
    for (index_t h = 0; h < a.shape().heads; ++h) {
        if (heads_of >= 0 && h != heads_of) continue;
        for (index_t d = 0; d < a.shape().dim; ++d)
            if (std::memcmp(&a.acc()(0, row, h, d), &b.acc()(0, other, h, d), sizeof(A)) != 0) return false;
        if (std::memcmp(&a.max()(0, row, h), &b.max()(0, other, h), sizeof(A)) != 0 ||
            std::memcmp(&a.sum()(0, row, h), &b.sum()(0, other, h), sizeof(A)) != 0)
            return false;
    }
    return true;
}

} // namespace

TEST_CASE("flash agrees with the definition of scores that change values, for every pair of choices") {
    const std::vector<instruction_set> sets = targets();
    double worst = 0;
    unsigned seed = 100;
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
    CHECK(worst > 1e-2); // a bound that nothing comes near would hide a defect
}

TEST_CASE("flash agrees with the definition of scores that change values, for all choices", "[slow]") {
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

TEMPLATE_TEST_CASE("scores of a hundred that change values make the reference move", "", float, double, bfloat16) {
    for (const std::size_t score : {1U, 2U, 4U, 5U, 7U, 9U})
        check<TestType>(sizes{1, 40, 300, 2, 1, 32, 16}, score, memory_order::bshd, 1, 60, targets(), 6);
}

TEMPLATE_TEST_CASE("where a score changes values, a list of key shards gives the bits of the whole", "", float, double,
                   bfloat16) {
    const sizes n{2, 50, 311, 2, 1, 24, 40};
    for (std::size_t which = 0; which < changed_scores_count; ++which) {
        const attention_input<TestType> in(n, 21);
        const any_score score = changed_score(which, n);
        for (const instruction_set set : targets()) {
            const auto whole = attend(flash{set}, in.how(), in, score);
            for (const int size : {3, 7}) {
                INFO(to_string(set) << ' ' << score.name() << " ranks " << size);
                CHECK(same_bits(whole, attend_sharded(flash{set}, in.how(), in, score, contiguous{}, size)));
                CHECK(same_bits(whole, attend_sharded(flash{set}, in.how(), in, score, zigzag{}, size)));
                CHECK(same_bits(whole, attend_sharded(flash{set}, in.how(), in, score, striped{}, size)));
            }
        }
    }
}

TEMPLATE_TEST_CASE("where a score changes values, a row's bits depend on no other row and not on the workers", "",
                   float, double) {
    const sizes n{1, 101, 233, 2, 2, 24, 40};
    const attention_input<TestType> in(n, 22, memory_order::bshd, 3);
    for (const instruction_set set : targets())
        for (std::size_t which = 0; which < changed_scores_count; ++which) {
            const any_score score = changed_score(which, n);
            INFO(to_string(set) << ' ' << score.name());
            context how = in.how();
            const auto whole = attend(flash{set}, how, in, score);
            bool same = true;
            for (const int size : {3, 7})
                for (int rank = 0; rank < size; ++rank)
                    for (const positions& at :
                         {contiguous{}.positions(rank, size, n.rows), striped{}.positions(rank, size, n.rows),
                          positions{{run{position{rank * 11}, 1, 1}}}}) {
                        const tensor<TestType> q = take_rows(in.q.view(), at);
                        const origin rows{at, {0, n.heads}}, keys = in.keys();
                        partial<TestType> part({1, at.size(), n.heads, n.dim_v});
                        const key_block<TestType> block_of_keys{in.k.view(), in.v.view(), keys};
                        flash{set}.forward(how, block<const TestType>{q.view(), rows},
                                           std::span<const key_block<TestType>>(&block_of_keys, 1), score, part);
                        for (index_t i = 0; i < at.size(); ++i) same = same && same_row(whole, at[i].value, part, i);
                    }
            CHECK(same);
            for (const int workers : {2, 3}) {
                const thread_pool pool(workers);
                how.executor = pool;
                CHECK(same_bits(whole, attend(flash{set}, how, in, score)));
            }
        }
}

TEST_CASE("what changes values is asked with the global batch, head and positions") {
    // Query heads 2 to 5 of 8, kv heads 1 and 2 of 4, rows and keys of two runs each, somewhere in a longer sequence.
    const sizes n{2, 30, 110, 4, 2, 20, 24};
    const attention_input<double> in(n, 5);
    context how = in.how();
    how.n = {500, 600};
    const origin rows{{run{position{90}, 1, 10}, run{position{300}, 2, 20}}, {2, 4}};
    const origin keys{{run{position{400}, 1, 40}, run{position{50}, 3, 70}}, {1, 2}};
    const key_block<double> block_of_keys{in.k.view(), in.v.view(), keys};
    const auto run_with = [&](const auto& kernel, const any_score& score) {
        partial<double> result(n.out());
        kernel.forward(how, block<const double>{in.q.view(), rows},
                       std::span<const key_block<double>>(&block_of_keys, 1), score, result);
        tensor<double> out(n.out());
        result.finish(out.view(), tensor_view<double>{});
        return out;
    };
    const alibi slopes = alibi::geometric(8);
    for (const any_score& score :
         std::vector<any_score>{slopes, random_bias{0.3} & random_drop{0.3}, causal{} & softcap{1} & slopes,
                                documents<>({0, 95, 320, 500}, {0, 60, 420, 600}) & random_bias{0.3} & slopes}) {
        const tensor<double> want = run_with(reference{}, score);
        for (const instruction_set set : targets()) {
            const tensor<double> got = run_with(flash{set}, score);
            double worst = 0, size = 0;
            for (index_t i = 0; i < n.out().count(); ++i) {
                worst = std::max(worst, std::abs(got.data()[i] - want.data()[i]));
                size = std::max(size, std::abs(want.data()[i]));
            }
            INFO(to_string(set) << ' ' << score.name());
            CHECK(size > 0.1);
            CHECK(worst < 1e-12);
        }
    }
}

TEMPLATE_TEST_CASE("NaN of a key that a score hides, or of a value that it drops, does not reach the row", "", float,
                   double, bfloat16) {
    const sizes n{1, 60, 150, 2, 1, 20, 36};
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    for (const instruction_set set : targets())
        for (const any_score& score :
             std::vector<any_score>{random_bias{0.5}, causal{alignment::bottom_right()} & random_bias{0.3},
                                    random_bias{0.3} & random_drop{0.4}, random_drop{0.5}})
            for (const index_t bad : {0, 47, 100, 149})
                for (const float value : {nan, inf}) {
                    attention_input<TestType> in(n, 24);
                    const context how = in.how();
                    const auto clean = attend(flash{set}, how, in, score);
                    const TestType kept = in.v(0, bad, 0, 7);
                    in.v(0, bad, 0, 7) = static_cast<TestType>(value);
                    const auto bad_v = attend(flash{set}, how, in, score);
                    in.v(0, bad, 0, 7) = kept;
                    in.k(0, bad, 0, 3) = static_cast<TestType>(nan);
                    const auto bad_k = attend(flash{set}, how, in, score);
                    bool untouched = true, reached = true;
                    int hidden = 0;
                    for (index_t i = 0; i < n.rows; ++i)
                        for (index_t h = 0; h < n.heads; ++h) {
                            const bool seen = sees_key(how, score, 0, h, i, bad),
                                       weighs = keeps_key(how, score, 0, h, i, bad);
                            hidden += weighs ? 0 : 1;
                            if (!weighs) untouched = untouched && same_row(clean, i, bad_v, i, h);
                            if (!seen) untouched = untouched && same_row(clean, i, bad_k, i, h);
                            if (weighs) reached = reached && !std::isfinite(bad_v.acc()(0, i, h, 7));
                            if (seen) reached = reached && std::isnan(bad_k.sum()(0, i, h));
                        }
                    INFO(to_string(set) << ' ' << score.name() << " key " << bad << " value " << value);
                    CHECK(hidden > 10);
                    CHECK(untouched);
                    CHECK(reached);
                }
}

TEST_CASE("a row of which the score hides every key keeps the identity, and what it held") {
    const sizes n{2, 60, 100, 2, 1, 16, 16};
    const attention_input<float> in(n, 26);
    for (const any_score& score : std::vector<any_score>{random_bias{1}, random_bias{1} & random_drop{0.5} & softcap{2},
                                                         causal{alignment::at(-70)} & softcap{2}})
        for (const instruction_set set : targets()) {
            CHECK(same_bits(attend(flash{set}, in.how(), in, score), partial<float>(n.out())));
            auto result = attend(flash{set}, in.how(), in, softcap{2});
            const auto before = attend(flash{set}, in.how(), in, softcap{2});
            const origin rows = in.rows(), keys = in.keys();
            const key_block<float> block_of_keys{in.k.view(), in.v.view(), keys};
            flash{set}.forward(in.how(), block<const float>{in.q.view(), rows},
                               std::span<const key_block<float>>(&block_of_keys, 1), score, result);
            tensor<float> a(n.out()), b(n.out());
            result.finish(a.view(), tensor_view<float>{});
            before.finish(b.view(), tensor_view<float>{});
            double worst = 0;
            for (index_t i = 0; i < n.out().count(); ++i)
                worst = std::max(worst, static_cast<double>(std::abs(a.data()[i] - b.data()[i])));
            CHECK(worst < 1e-6);
        }
    // Weights that are all dropped leave the sum of the softmax as it is.
    const auto dropped = attend(flash{}, in.how(), in, random_drop{1});
    const auto kept = attend(flash{}, in.how(), in, full{});
    for (index_t i = 0; i < n.rows; ++i) {
        CHECK(dropped.acc()(1, i, 1, 3) == 0);
        CHECK(dropped.sum()(1, i, 1) == Approx(kept.sum()(1, i, 1)));
    }
}

TEST_CASE("folding blocks one after the other equals one fold, where the score changes values") {
    const sizes n{1, 31, 300, 2, 1, 24, 20};
    for (std::size_t which = 0; which < changed_scores_count; ++which) {
        changed_attention<float> in(n, changed_score(which, n), 11, memory_order::bshd, 1, 12);
        for (const instruction_set set : targets()) {
            partial<float> result(n.out());
            const origin rows = in.rows();
            for (const auto& [first, count] :
                 std::vector<std::array<index_t, 2>>{{200, 100}, {0, 1}, {1, 95}, {96, 104}}) {
                const origin at{{run{position{first}, 1, count}}, {0, n.kv_heads}};
                const key_block<float> keys{in.k.view().rows(first, count), in.v.view().rows(first, count), at};
                flash{set}.forward(in.how, block<const float>{in.q.view(), rows},
                                   std::span<const key_block<float>>(&keys, 1), in.score, result);
            }
            std::string why;
            const bool right = in.accepts(result, why);
            INFO(to_string(set) << ' ' << in.score.name() << ": " << why);
            CHECK(right);
        }
    }
}
