/// @file
/// flash against the definition: every instruction set, type, shape and score, pair by pair; all of them in [slow].

#include "kernel/attention_case.hpp"
#include "support/catch.hpp"
#include <support/pairwise.hpp>

#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <array>

using namespace kernel_test;

namespace {

const std::vector<index_t> dims{1, 3, 16, 63, 64, 80, 128, 200, 256};
const std::vector<index_t> counts{1, 7, 23, 24, 25, 47, 48, 49, 97, 257};

const std::vector<any_score>& scores() {
    static const std::vector<any_score> all{full{},
                                            causal{},
                                            causal{alignment::bottom_right()},
                                            causal{alignment::at(-9)},
                                            sliding_window{7, 12},
                                            sliding_window{60, 0, alignment::bottom_right()},
                                            causal{} & sliding_window{30, 30},
                                            causal{alignment::at(40)} &
                                                sliding_window{0, sliding_window::open, alignment::at(3)}};
    return all;
}

const std::vector<std::array<index_t, 2>> groups{{4, 4}, {4, 2}, {3, 1}, {1, 1}};
const std::array<memory_order, 3> orders{memory_order::bshd, memory_order::bhsd, memory_order::dim_first};

/// One attention with every given instruction set; the largest error / bound.
template <class T>
double check(const sizes& n, const any_score& score, memory_order order, int workers, unsigned seed,
             const std::vector<instruction_set>& sets) {
    const attention_input<T> in(n, seed, order);
    context how = in.how();
    definition truth(how, in, score);
    const thread_pool pool(workers);
    how.executor = pool;
    for (const instruction_set set : sets) {
        INFO(to_string(set) << ' ' << element_traits<T>::name << ' ' << n.text() << ' ' << score.name() << " order "
                            << static_cast<int>(order) << " workers " << workers);
        std::string why;
        const bool right = truth.accepts(attend(flash{set}, how, in, score), why);
        INFO(why);
        REQUIRE(right);
    }
    return truth.worst;
}

template <class... Arguments>
double check_as(std::size_t type, const Arguments&... arguments) {
    return type == 0   ? check<float>(arguments...)
           : type == 1 ? check<double>(arguments...)
                       : check<bfloat16>(arguments...);
}

} // namespace

TEST_CASE("flash agrees with the definition for every pair of choices") {
    const std::vector<instruction_set> sets = targets();
    double worst = 0;
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
        worst = std::max(worst, check_as(c[1], n, scores()[c[6]], orders[c[9]], c[10] == 0 ? 1 : 3, ++seed,
                                         std::vector<instruction_set>{sets[c[0]]}));
    }
    CAPTURE(worst);
    CHECK(worst > 1e-3); // a bound that nothing comes near would hide a defect
}

TEST_CASE("flash agrees with the definition for all choices", "[slow]") {
    unsigned seed = 0;
    for (std::size_t type = 0; type < 3; ++type)
        for (const index_t dim : dims)
            for (const index_t rows : counts)
                for (const index_t keys : counts)
                    for (const any_score& score : scores()) {
                        const std::size_t i = ++seed;
                        // Few heads where there are many scores: the product has 20,000 attentions.
                        const auto& group = rows * keys > 5000 ? groups[3] : groups[i % groups.size()];
                        check_as(
                            type,
                            sizes{1, rows, keys, group[0], group[1], dim, i % 3 == 0 ? dims[i % dims.size()] : dim},
                            score, orders[i % orders.size()], 1, seed, targets());
                    }
}

TEMPLATE_TEST_CASE("folding blocks one after the other equals one fold", "", float, double, bfloat16) {
    const sizes n{2, 61, 300, 4, 2, 48, 40};
    const attention_input<TestType> in(n, 11);
    const context how = in.how();
    for (const any_score& score : scores()) {
        definition truth(how, in, score, 12);
        for (const instruction_set set : targets()) {
            partial<accumulator_t<TestType>> result(n.out());
            const origin rows = in.rows();
            for (const auto& [first, count] :
                 std::vector<std::array<index_t, 2>>{{200, 100}, {0, 1}, {1, 95}, {96, 104}}) {
                const origin at{{run{position{first}, 1, count}}, {0, n.kv_heads}};
                const key_block<TestType> keys{in.k.view().rows(first, count), in.v.view().rows(first, count), at};
                flash{set}.forward(how, block<const TestType>{in.q.view(), rows},
                                   std::span<const key_block<TestType>>(&keys, 1), score, result);
            }
            std::string why;
            const bool right = truth.accepts(result, why);
            INFO(to_string(set) << ' ' << score.name() << ": " << why);
            CHECK(right);
        }
    }
}

TEST_CASE("scale, positions and head offsets are those of the context") {
    // Query heads 2 to 5 of 8, kv heads 1 and 2 of 4, rows and keys of two runs each, somewhere in a longer sequence.
    const sizes n{1, 30, 110, 4, 2, 20, 24};
    const attention_input<float> in(n, 5);
    context how = in.how();
    how.scale = -0.7;
    how.n = {500, 600};
    const origin rows{{run{position{90}, 1, 10}, run{position{300}, 2, 20}}, {2, 4}};
    const origin keys{{run{position{400}, 1, 40}, run{position{50}, 3, 70}}, {1, 2}};
    const key_block<float> block_of_keys{in.k.view(), in.v.view(), keys};
    const auto run_with = [&](const auto& kernel, const any_score& score) {
        partial<float> result(n.out());
        kernel.forward(how, block<const float>{in.q.view(), rows}, std::span<const key_block<float>>(&block_of_keys, 1),
                       score, result);
        tensor<float> out(n.out());
        result.finish(out.view(), tensor_view<float>{});
        return out;
    };
    for (const any_score& score :
         std::vector<any_score>{full{}, causal{}, sliding_window{60, 100}, causal{alignment::bottom_right()}}) {
        const tensor<float> want = run_with(reference{}, score);
        for (const instruction_set set : targets()) {
            const tensor<float> got = run_with(flash{set}, score);
            double worst = 0, size = 0;
            for (index_t i = 0; i < n.out().count(); ++i) {
                worst = std::max(worst, static_cast<double>(std::abs(got.data()[i] - want.data()[i])));
                size = std::max(size, static_cast<double>(std::abs(want.data()[i])));
            }
            INFO(to_string(set) << ' ' << score.name());
            CHECK(size > 0.1);
            CHECK(worst < 1e-5);
        }
    }
}

TEST_CASE("flash takes no sequence, no keys and no heads") {
    for (const sizes& n : {sizes{1, 0, 5, 2, 1, 8, 8}, sizes{1, 5, 0, 2, 1, 8, 8}, sizes{0, 5, 5, 2, 1, 8, 8}}) {
        const attention_input<float> in(n);
        const partial<float> result = attend(flash{}, in.how(), in, full{});
        CHECK(same_bits(result, partial<float>(n.out())));
    }
    const attention_input<float> in(sizes{1, 5, 5, 1, 1, 8, 8});
    partial<float> result(in.n.out());
    const origin rows = in.rows();
    flash{}.forward(in.how(), block<const float>{in.q.view(), rows}, std::span<const key_block<float>>(), full{},
                    result);
    CHECK(same_bits(result, partial<float>(in.n.out())));
}

TEST_CASE("flash takes the last instruction set that the processor has and gains by") {
    const instruction_set best = best_instruction_set();
    CHECK(is_supported(best));
    CHECK(is_worthwhile(best));
    CHECK(best != instruction_set::automatic);
    for (const instruction_set set : all_instruction_sets)
        if (set > best) CHECK_FALSE((is_supported(set) && is_worthwhile(set)));
    if (asked_instruction_set().empty()) CHECK(flash{}.target() == best);
}

TEST_CASE("flash refuses an instruction set that the processor lacks, and names those it has") {
    CHECK(flash{instruction_set::baseline}.target() == instruction_set::baseline);
    CHECK(flash{}.name() == "flash");
    CHECK(flash{instruction_set::avx2}.name() == "flash(avx2)");
    CHECK_NOTHROW(flash{}.check());
    CHECK_NOTHROW(flash{instruction_set::baseline}.check());
    for (const instruction_set set : all_instruction_sets)
        if (!is_supported(set)) CHECK_THROWS_AS(flash{set}.check(), refusal);
}
