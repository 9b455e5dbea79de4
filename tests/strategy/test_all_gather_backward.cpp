/// All-gather, backward: every pattern, gathered and streamed, kept and sent again: gradients within derived bounds of a
/// definition; messages, bytes, rounds and peak memory of both passes equal to the formulas as integers, on every rank.
#include <support/backward_counts.hpp>
#include <support/catch.hpp>
#include <support/gradient_case.hpp>

#include "all_gather_variants.hpp"
#include "thread_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/documents.hpp>

#include <bit>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

const std::vector<int> rank_counts{1, 2, 3, 4, 5, 7, 8};

const any_score packed(causal{alignment::bottom_right()} & documents<>({0, 5, 5, 18, 31}, {0, 9, 12, 20, 37}));

struct product {
    int every;
    int next = 0;

    /// f(ranks, how, layout, score, shape, save, into_lse) for every n-th case.
    template <class F>
    void each(const F& f) {
        for (const int p : rank_counts)
            for (const all_gather& how : all_gathers())
                for (const attention_shape& shape : small_shapes())
                    for (const any_layout& layout : all_layouts())
                        for (const any_score& s : all_scores())
                            for (const saving save : {saving::keep, saving::resend})
                                for (const bool into_lse : {false, true})
                                    if (next++ % every == 0) f(p, how, layout, s, shape, save, into_lse);
    }

    template <class T, class Kernel>
    void gradients(const Kernel& kernel) {
        each([&](int p, const all_gather& how, const any_layout& layout, const any_score& s,
                 const attention_shape& shape, saving save, bool into_lse) {
            const gradient_case<T> c(shape, layout, s, into_lse, p);
            CHECK(said_by_ranks(
                      p, [&](thread_communicator world) { return c.trouble_with(world, how, kernel, save); }) == "");
        });
    }

    template <class T, class Kernel>
    void costs(const Kernel& kernel) {
        each([&](int p, const all_gather& how, const any_layout& layout, const any_score& s,
                 const attention_shape& shape, saving save, bool into_lse) {
            CHECK(said_by_ranks(p, [&](thread_communicator world) {
                      return count_trouble_with<T>(world, how, kernel, {shape, layout, s}, save, into_lse);
                  }) == "");
        });
    }
};

} // namespace

TEST_CASE("all-gather: gradients, a part of the product") {
    product{211}.gradients<double>(reference{});
    product{223}.gradients<float>(flash{});
    product{997}.gradients<bfloat16>(flash{});
}
TEST_CASE("all-gather: gradients, the full product", "[slow]") {
    for (const int p : rank_counts)
        for (const attention_shape& shape : small_shapes())
            for (const any_layout& layout : all_layouts())
                for (const any_score& s : all_scores())
                    for (const bool into_lse : {false, true}) {
                        const gradient_case<double> c(shape, layout, s, into_lse, p);
                        CHECK(said_by_ranks(p, [&](thread_communicator world) {
                                  std::string trouble;
                                  for (const all_gather& how : all_gathers())
                                      for (const saving save : {saving::keep, saving::resend})
                                          trouble += c.trouble_with(world, how, flash{}, save);
                                  return trouble;
                              }) == "");
                    }
}

TEST_CASE("all-gather: both passes cost what is predicted, a part of the product") {
    product{53}.costs<float>(flash{});
    product{401}.costs<bfloat16>(reference{});
}
TEST_CASE("all-gather: both passes cost what is predicted, the full product", "[slow]") {
    product{1}.costs<float>(flash{});
}

TEST_CASE("all-gather: gradients of packed documents, and what they cost") {
    int next = 0;
    for (const int p : {3, 4, 7})
        for (const any_layout& layout : all_layouts())
            for (const all_gather& how : all_gathers())
                for (const saving save : {saving::keep, saving::resend})
                    if (next++ % 5 == 0) {
                        const attention_shape shape{2, 37, 37, 6, 3, 16, 5};
                        const gradient_case<double> c(shape, layout, packed, true, p);
                        CHECK(said_by_ranks(p, [&](thread_communicator world) {
                                  return c.trouble_with(world, how, flash{}, save) +
                                         count_trouble_with<double>(world, how, flash{}, {shape, layout, packed}, save,
                                                                    true);
                              }) == "");
                    }
}

TEST_CASE("all-gather: backward in closed form, for even shards") {
    constexpr std::size_t n = 6, e = 2, a = 4, k = 2 * 8;
    const bfloat16 some{};
    static_assert(sizeof(some) == e);
    for (const int p : rank_counts)
        for (const all_gather& how : all_gathers())
            for (const saving save : {saving::keep, saving::resend}) {
                const auto rows = static_cast<index_t>(n) * p;
                const std::size_t m = static_cast<std::size_t>(p) - 1, c = static_cast<std::size_t>(how.stream);
                const std::size_t gather =
                    how.pattern == exchange_pattern::doubling ? static_cast<std::size_t>(std::bit_width(m)) : m;
                const std::size_t stream = c == 0 ? 0 : (m + c - 1) / c;
                const bool again = save == saving::resend;
                // once more what was gathered, V where it is streamed, and the unfinished sums of dk and dv
                const std::size_t bytes =
                    (again ? (c == 0 ? 2 : 1) * n * k * m * e : 0) + (c == 0 ? 0 : n * k * m * e) + 2 * n * k * m * a;
                threads::run(p, [&](thread_communicator world) {
                    attention attend{
                        world, how, striped{}, span_backend<bfloat16>{}, reference{}, options{.save = save}};
                    const plan::cost cost = attend.predict_backward({1, rows, rows, 4, 2, 8, 8}, world.rank());
                    static std::mutex mutex;
                    const std::lock_guard lock(mutex);
                    CAPTURE(how.name(), p, again);
                    CHECK(cost.bytes == bytes);
                    CHECK(cost.rounds == (again ? gather : 0) + stream + m);
                });
            }
}
