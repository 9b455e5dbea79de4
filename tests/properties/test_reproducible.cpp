/// @file
/// `reproducible`: the same bits of out, lse and gradients for every strategy, layout, number of ranks and of threads.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/changing_scores.hpp>
#include <support/same_bits.hpp>

#include <seqpar/kernel/reproducible.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/dropout.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/score/softcap.hpp>

#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

template <class T>
struct input : whole_input<T> {
    using whole_input<T>::whole_input;

    template <class Kernel>
    [[nodiscard]] auto run(const any_strategy<thread_communicator, Kernel>& how, int ranks, const any_score& score,
                           const any_layout& layout, int threads, saving save = saving::resend) const {
        const whole_run<T, Kernel> whole{.strategy = how,
                                         .ranks = ranks,
                                         .score = score,
                                         .layout = layout,
                                         .how = {.save = save},
                                         .threads_per_rank = threads};
        return whole.backward(*this);
    }
};

[[nodiscard]] any_score everything_at_once() {
    return any_score(causal{alignment::bottom_right()}) & softcap(2) & alibi({0.3, 0.1, 0.05, 0.01}) &
           sink({1, 0, -1, 2}) & dropout(0.2, 17);
}

/// How many schemes on these ranks give other bits than serial, of how many.
template <class T, class Kernel>
[[nodiscard]] std::pair<int, int> other_bits(const input<T>& in, const any_score& score, const std::vector<int>& ranks,
                                             index_t every = 1) {
    const auto want =
        in.template run<Kernel>(any_strategy<thread_communicator, Kernel>(serial{}), 1, score, contiguous{}, 1);
    const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};
    int others = 0, all = 0;
    index_t turn = 0;
    for (const int p : ranks)
        for (const auto& how : all_strategies<thread_communicator, Kernel>(p))
            for (std::size_t l = 0; l < layouts.size(); ++l) {
                if (how.name() == "serial" || turn++ % every != 0) continue;
                const auto got = in.template run<Kernel>(how, p, score, layouts[l], 1 + all % 3,
                                                         all % 2 == 0 ? saving::keep : saving::resend);
                ++all;
                if (same_bits(got, want)) continue;
                ++others;
                UNSCOPED_INFO(how.name() << " on " << p << ", " << layouts[l].name());
            }
    return {others, all};
}

const attention_shape grouped{1, 37, 41, 4, 2, 8, 6};

} // namespace

TEMPLATE_TEST_CASE("one result, whoever computes it", "", float, double, bfloat16) {
    const input<TestType> in(grouped);
    for (const any_score& score : {any_score(full{}), everything_at_once()}) {
        const auto [others, all] = other_bits<TestType, reproducible>(in, score, {2, 3, 5}, 4);
        CHECK(others == 0);
        CHECK(all >= 20);
    }
}

TEST_CASE("without it, results of other strategies have other bits") {
    const input<float> in(grouped);
    const auto alone = attention{flash{}}.forward(in.q, in.k, in.v);
    int others = 0;
    threads::run(3, [&](thread_communicator world) {
        attention attend{world, ring{}, flash{}};
        const positions rows = contiguous{}.positions(world.rank(), 3, 37),
                        keys = contiguous{}.positions(world.rank(), 3, 41);
        const auto part = [](const tensor<float>& x, const positions& at) { return whole_run<float>::part(x, at); };
        const auto mine = attend.forward(part(in.q, rows), part(in.k, keys), part(in.v, keys));
        if (world.rank() == 1) others = same_bits(mine.out, part(alone.out, rows)) ? 0 : 1;
    });
    CHECK(others == 1);
}

TEMPLATE_TEST_CASE("one result, of all strategies, layouts, scores and ranks", "[slow]", float, bfloat16) {
    for (const attention_shape& shape : {grouped, attention_shape{2, 29, 29, 6, 3, 5, 5}, {1, 5, 6, 4, 1, 8, 8}}) {
        const input<TestType> in(shape);
        for (any_score score : {any_score(full{}), any_score(causal{}), any_score(causal{} & sliding_window{9, 0}),
                                any_score(documents<>({0, 3, 3, shape.queries}, {0, 4, 5, shape.keys}))}) {
            if (shape.heads == 4) score = score & everything_at_once();
            const auto [others, all] = other_bits<TestType, reproducible>(in, score, {1, 2, 3, 4, 5, 6, 7, 8, 9});
            CHECK(others == 0);
            CHECK(all > 300);
        }
    }
}

TEST_CASE("scores of any size have weights") {
    // What other kernels need a maximum for: +-1e4, and one key that outweighs all others beyond any double.
    input<float> in({1, 33, 33, 2, 1, 8, 8});
    for (index_t i = 0; i < in.q.shape().count(); ++i) in.q.data()[i] *= 1e4F;
    const auto [others, all] = other_bits<float, reproducible>(in, causal{}, {2, 4}, 3);
    CHECK(others == 0);
    const auto result =
        in.run<reproducible>(any_strategy<thread_communicator, reproducible>(ring{}), 4, causal{}, contiguous{}, 1);
    const auto plain = attention{causal{}, flash{}}.forward(in.q, in.k, in.v);
    for (index_t i = 0; i < result.out.shape().count(); ++i)
        CHECK(result.out.data()[i] == Approx(plain.out.data()[i]).margin(1e-2));
    CHECK(std::isfinite(result.lse(0, 32, 1)));
}
