/// @file
/// Memory that is lent holds what was there before. No result depends on it: the same bits whether it holds zeros, as fresh
/// pages do, or NaN.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/changing_scores.hpp>
#include <support/filled_memory.hpp>
#include <support/same_bits.hpp>
#include <support/targets.hpp>

#include <seqpar/kernel/reference.hpp>
#include <seqpar/kernel/reproducible.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/score/softcap.hpp>

#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

/// Whether a run gives the same bits in either memory.
template <class T, class Kernel>
[[nodiscard]] bool is_indifferent(whole_run<T, Kernel> run, const whole_input<T>& x) {
    filled_memory zeros(0), nans(used_byte);
    run.how.memory = &zeros;
    const auto clean = run.backward(x);
    run.how.memory = &nans;
    const auto dirty = run.backward(x);
    return zeros.allocations() > 0 && nans.allocations() > 0 && same_bits(clean, dirty);
}

const attention_shape small{1, 37, 41, 4, 2, 24, 20};

[[nodiscard]] std::vector<any_score> scores(const attention_shape& s) {
    return {full{}, causal{alignment::at(-9)}, causal{alignment::bottom_right()} & sliding_window{9, 2},
            documents<>({0, 3, 3, s.queries}, {0, 4, 5, s.keys}),
            any_score(causal{}) & softcap(2) & alibi({0.3, 0.1, 0.05, 0.01}) & sink({1, 0, -1, 2})};
}

} // namespace

TEMPLATE_TEST_CASE("no strategy reads what nobody has written", "", float, bfloat16) {
    const whole_input<TestType> x(small);
    const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};
    int turn = 0;
    for (const int p : {1, 3, 4})
        for (const auto& strategy : all_strategies<thread_communicator>(p))
            for (const any_score& score : scores(small)) {
                const whole_run<TestType> run{.strategy = strategy,
                                              .ranks = p,
                                              .score = score,
                                              .layout = layouts[static_cast<std::size_t>(turn % 3)],
                                              .how = {.save = turn % 2 == 0 ? saving::keep : saving::resend}};
                ++turn;
                INFO(run.name());
                CHECK(is_indifferent(run, x));
            }
}

TEMPLATE_TEST_CASE("no kernel reads what nobody has written", "", float, double, bfloat16) {
    std::vector<any_kernel> kernels{any_kernel(reference{})};
    for (const instruction_set set : targets()) kernels.emplace_back(flash{set});
    for (const attention_shape& shape : {small, attention_shape{2, 130, 70, 4, 2, 63, 80}, {1, 3, 200, 4, 2, 16, 16}}) {
        const whole_input<TestType> x(shape);
        for (const any_kernel& kernel : kernels)
            for (const any_score& score : scores(shape)) {
                const whole_run<TestType> run{
                    .strategy = ring{}, .ranks = 2, .score = score, .kernel = kernel, .threads_per_rank = 2};
                INFO(kernel.name() << ", " << run.name());
                CHECK(is_indifferent(run, x));
            }
    }
}

TEST_CASE("nor does the one whose sums do not depend on order") {
    const whole_input<float> x(small);
    for (const auto& strategy : all_strategies<thread_communicator, reproducible>(3)) {
        const whole_run<float, reproducible> run{.strategy = strategy, .ranks = 3, .score = scores(small).back()};
        INFO(run.name());
        CHECK(is_indifferent(run, x));
    }
}
