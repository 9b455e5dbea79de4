/// Gradients, out and lse of every strategy with every score, layout, kind of heads, number of ranks and type, against the
/// definition with derived bounds, and what each pass sends and holds against the formulas: every pair of choices at every
/// change, their whole product as [slow].
#include <support/all_strategies.hpp>
#include <support/backward_counts.hpp>
#include <support/catch.hpp>
#include <support/changing_scores.hpp>
#include <support/gradient_case.hpp>
#include <support/pairwise.hpp>

#include "product.hpp"
#include "thread_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/dropout.hpp>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

using counting = metered<thread_communicator>;

const std::vector<int> rank_counts{1, 2, 3, 4, 5, 7, 8};

/// Multi-head, grouped, multi-query; cross-attention, shares that straddle groups, N < P, heads < P.
const std::vector<attention_shape> shapes{{1, 37, 37, 4, 4, 8, 8},  {2, 37, 37, 6, 3, 16, 5}, {1, 41, 41, 5, 1, 7, 7},
                                          {1, 29, 53, 9, 3, 4, 12}, {1, 5, 6, 4, 2, 8, 8},    {1, 53, 22, 2, 2, 3, 3}};

/// Masks alone, then scores that change values.
[[nodiscard]] std::vector<changing_score> scores_of(const attention_shape& shape) {
    std::vector<changing_score> all;
    for (const any_score& mask : all_scores()) all.push_back({mask, {}});
    for (changing_score& s : changing_scores(shape)) all.push_back(std::move(s));
    return all;
}

/// The names of all strategies that run on some number of ranks are too many to be a side of the product: the n-th of each.
[[nodiscard]] any_strategy<counting> nth_strategy(int ranks, std::size_t n) {
    const auto all = all_strategies<counting>(ranks);
    return all[n % all.size()];
}

enum side : std::size_t { ranks_side, strategy_side, layout_side, shape_side, score_side, save_side, dlse_side };

[[nodiscard]] std::vector<std::size_t> sides() {
    return {rank_counts.size(),
            all_strategies<counting>(8).size(),
            3,
            shapes.size(),
            scores_of(shapes.front()).size(),
            2,
            2};
}

template <class T>
void check(const choice& c, const any_kernel& kernel) {
    const int ranks = rank_counts[c[ranks_side]];
    const attention_shape& of = shapes[c[shape_side]];
    const std::vector<changing_score> scores = scores_of(of);
    const changing_score& s = scores[c[score_side] % scores.size()];
    const gradient_case<T> input(of, all_layouts()[c[layout_side]], s.library, c[dlse_side] == 1, ranks, s.oracle);
    const auto how = nth_strategy(ranks, c[strategy_side]);
    const saving save = c[save_side] == 1 ? saving::keep : saving::resend;
    CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
              return input.trouble_with(counting(world), how, kernel, save) +
                     count_trouble_with<T>(world, how, kernel, {of, input.layout, s.library}, save, input.with_dlse);
          }) == "");
}

} // namespace

TEST_CASE("every pair of choices, in double by the reference kernel") {
    for (const choice& c : pairwise(sides())) check<double>(c, reference{});
}
TEST_CASE("every pair of choices, in float by flash") {
    for (const choice& c : pairwise(sides())) check<float>(c, flash{});
}
TEST_CASE("every pair of choices, in bfloat16 by flash") {
    for (const choice& c : pairwise(sides())) check<bfloat16>(c, flash{});
}
TEST_CASE("all choices, in double by flash", "[slow]") {
    const std::vector<std::size_t> n = sides();
    for (std::size_t a = 0; a < n[ranks_side]; ++a)
        for (std::size_t b = 0; b < all_strategies<counting>(rank_counts[a]).size(); ++b)
            for (std::size_t l = 0; l < n[layout_side]; ++l)
                for (std::size_t x = 0; x < n[shape_side]; ++x)
                    for (std::size_t s = 0; s < n[score_side]; ++s)
                        // the last two sides do not meet the others' product whole, but by turns
                        check<double>({a, b, l, x, s, (b + s) % 2, (x + l) % 2}, flash{});
}
