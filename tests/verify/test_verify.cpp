/// Verification: the definition against attention written without the library, bounds that hold and are tight enough, and
/// defects that must be found.
#include <support/catch.hpp>
#include <support/naive.hpp>
#include <support/scheme_case.hpp>

#include <seqpar/comm/threads.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/verify.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

using namespace seqpar;
using testing::normal;

namespace {

context how_for(index_t nq, index_t nk, index_t group, double scale) {
    context how;
    how.scale = scale;
    how.n = {nq, nk};
    how.group = group;
    return how;
}

} // namespace

TEST_CASE("the definition is attention") {
    const auto q = normal<float>({2, 9, 4, 5}, 1), k = normal<float>({2, 13, 2, 5}, 2),
               v = normal<float>({2, 13, 2, 3}, 3);
    const auto check = [&](const auto& s, const std::function<bool(index_t, index_t)>& sees) {
        const definition define(how_for(9, 13, 2, 0.7), tensor_view<const float>(q), tensor_view<const float>(k),
                                tensor_view<const float>(v), s, 1);
        const auto expected = testing::naive_attention<float>(q.view(), k.view(), v.view(), 0.7, sees);
        std::size_t n = 0, at = 0;
        for (index_t b = 0; b < 2; ++b)
            for (index_t i = 0; i < 9; ++i)
                for (index_t h = 0; h < 4; ++h) {
                    const judged_row row = define.row(b, i, h);
                    for (const double x : row.out)
                        CHECK(x == Approx(static_cast<double>(expected.out[n++])).margin(1e-13));
                    CHECK(row.lse == Approx(static_cast<double>(expected.lse[at++])).margin(1e-13));
                    for (const double bound : row.bound) CHECK((bound >= 0 && bound < 1e-4));
                }
    };
    check(full{}, [](index_t, index_t) { return true; });
    check(causal{}, [](index_t i, index_t j) { return j <= i; });
    check(causal{alignment::at(-3)}, [](index_t i, index_t j) { return j <= i - 3; }); // rows that see nothing
    check(sliding_window{2, 1}, [](index_t i, index_t j) { return j >= i - 2 && j <= i + 1; });
}

TEST_CASE("float stays within its bounds, and the bounds are not idle") {
    double worst = 0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        const auto q = normal<float>({1, 40, 2, 32}, 3 * seed), k = normal<float>({1, 300, 2, 32}, 3 * seed + 1),
                   v = normal<float>({1, 300, 2, 16}, 3 * seed + 2);
        const judge judged(reference{}, full{}, how_for(40, 300, 1, 1 / std::sqrt(32.0)), tensor_view<const float>(q),
                           tensor_view<const float>(k), tensor_view<const float>(v), {});
        const report r = judged.compare(judged.out(), judged.lse());
        CHECK(r.passed);
        CHECK(r.same_bits_as_serial);
        CHECK(r.rows_judged == 80);
        worst = std::max(worst, r.worst_ratio);
    }
    CHECK(worst < 0.8);
    CHECK(worst > 0.02);
}

namespace {

/// Kernels with one defect each.
struct loses_a_key : reference {
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        reference::forward(how, q, keys, s & sliding_window{-1, 60}, into);
    }
};
struct scales_wrongly : reference {
    template <real_element T, score S>
    void forward(context how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        how.scale *= 1.0005;
        reference::forward(how, q, keys, s, into);
    }
};
struct never_rescales : reference { // each block by itself, outputs added
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        partial<accumulator_t<T>> fresh(into.shape());
        reference::forward(how, q, keys, s, fresh);
        for (index_t i = 0; i < into.shape().count(); ++i) into.acc().data()[i] += fresh.acc().data()[i];
        for (index_t i = 0; i < into.shape().batch * into.shape().seq * into.shape().heads; ++i) {
            into.sum().data()[i] += fresh.sum().data()[i];
            into.max().data()[i] = fresh.max().data()[i];
        }
    }
};
struct computes_nothing : reference {
    template <class... Any>
    void forward(const Any&...) const {}
};

template <class Kernel>
report judged_on_four_ranks(const Kernel& broken) {
    report found;
    threads::run(4, [&](thread_communicator world) {
        // serial with the same kernel has the same defect, so the definition has to find it: verify against it alone
        const std::uint64_t r = static_cast<std::uint64_t>(world.rank());
        const auto q = normal<float>({1, 30, 2, 16}, r), k = normal<float>({1, 30, 2, 16}, r + 10),
                   v = normal<float>({1, 30, 2, 16}, r + 20);
        attention attend{world, ring{}, broken};
        const report mine = verify(attend, q, k, v);
        if (world.rank() == 3) found = mine;
    });
    return found;
}

} // namespace

TEST_CASE("defects are found, by a wide margin, on every rank") {
    CHECK(judged_on_four_ranks(reference{}).passed);
    for (const report& r : {judged_on_four_ranks(loses_a_key{}), judged_on_four_ranks(scales_wrongly{}),
                            judged_on_four_ranks(never_rescales{}), judged_on_four_ranks(computes_nothing{})}) {
        CHECK_FALSE(r.passed);
        CHECK(r.worst_ratio > 10);
        CHECK(r.text().find("FAILED") == 0);
    }
}

TEST_CASE("one wrong element is found and named, judged or not") {
    const auto q = normal<float>({2, 50, 4, 8}, 1), k = normal<float>({2, 60, 2, 8}, 2),
               v = normal<float>({2, 60, 2, 8}, 3);
    for (const double budget : {1e9, 1.0}) { // all rows judged; a few sampled
        const judge judged(reference{}, causal{}, how_for(50, 60, 2, 0.3), tensor_view<const float>(q),
                           tensor_view<const float>(k), tensor_view<const float>(v), judging{budget, 5, 1});
        tensor<float> out({2, 50, 4, 8});
        copy(judged.out(), out.view());
        CHECK(judged.compare(out.view(), judged.lse()).passed);
        CHECK(judged.compare(out.view(), judged.lse()).rows_judged ==
              (budget > 10 ? 400 : judged.compare(out.view()).rows_judged));
        if (budget < 10) CHECK(judged.compare(out.view()).rows_judged < 20);
        out(1, 33, 2, 7) += 0.01f;
        const report r = judged.compare(out.view(), judged.lse());
        CHECK_FALSE(r.passed);
        CHECK_FALSE(r.same_bits_as_serial);
        CHECK(r.worst_from_serial.batch == 1);
        CHECK(r.worst_from_serial.row == 33);
        CHECK(r.worst_from_serial.head == 2);
        CHECK(r.worst_from_serial.component == 7);
        CHECK(r.text().find("(batch 1, row 33, head 2, component 7)") != std::string::npos);

        out(1, 33, 2, 7) = std::numeric_limits<float>::quiet_NaN();
        CHECK_FALSE(judged.compare(out.view(), judged.lse()).passed);

        tensor<float> lse({2, 50, 4, 1}); // base 2 instead of e
        for (index_t b = 0; b < 2; ++b)
            for (index_t i = 0; i < 50; ++i)
                for (index_t h = 0; h < 4; ++h) lse(b, i, h) = judged.lse()(b, i, h) * std::numbers::log2e_v<float>;
        CHECK_FALSE(judged.compare(judged.out(), lse.view()).passed);
    }
}

TEST_CASE("all zeros are no attention") {
    const auto q = normal<float>({1, 20, 2, 8}, 1);
    const judge judged(reference{}, full{}, how_for(20, 20, 1, 0.3), tensor_view<const float>(q),
                       tensor_view<const float>(q), tensor_view<const float>(q), {});
    const tensor<float> zeros({1, 20, 2, 8});
    CHECK_FALSE(judged.compare(zeros.view()).passed);
}
