/// The gates of the judge one by one: a result that passes the others must not pass this one. And which rows are a sample.
#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/kernel/flash.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/verify/definition.hpp>
#include <seqpar/verify/judge.hpp>
#include <seqpar/verify/sample.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <vector>

using namespace seqpar;
using seqpar::testing::normal;

namespace {

constexpr index_t rows = 40, dim = 16;

/// One attention, what serial makes of it, and each row's definition.
struct judged_case {
    tensor<float> q = normal<float>({1, rows, 1, dim}, 1), k = normal<float>({1, rows, 1, dim}, 2),
                  v = normal<float>({1, rows, 1, dim}, 3);
    context how = [] {
        context c;
        c.scale = 2; // large scores: bounds are wide, and serial is far within them
        c.n = {rows, rows};
        return c;
    }();

    judged_case() { v(0, 0, 0, 0) = 1e-3F; } // row 0 sees this alone: its bound is narrow
};

tensor<float> copy_of(const tensor_view<const float>& x) {
    tensor<float> y(x.shape());
    copy(x, y.view());
    return y;
}

} // namespace

TEST_CASE("an element beyond its bound is found, however small its error is beside that of others") {
    const judged_case c;
    const judge judged(flash{}, causal{}, c.how, c.q.view(), c.k.view(), c.v.view(), judging{});
    const causal score;
    const judged_row truth =
        definition<float, causal>(c.how, c.q.view(), c.k.view(), c.v.view(), score, 1).row(0, 0, 0);
    tensor<float> out = copy_of(judged.out());
    CHECK(judged.compare(out.view(), judged.lse()).passed);
    out(0, 0, 0, 0) = static_cast<float>(truth.out[0] + 4 * truth.bound[0]);
    const report r = judged.compare(out.view(), judged.lse());
    CHECK(!r.passed);
    CHECK(r.worst_ratio > 3);
    CHECK(r.worst_ratio < 5);
    CHECK(r.max_abs_error <= 2 * r.serial_error + 17 * 0x1p-24);
    CHECK(r.max_from_serial <= r.allowed_from_serial);
}

TEST_CASE("an error within its bound that is far above serial's is found") {
    const judged_case c;
    const judge judged(flash{}, causal{}, c.how, c.q.view(), c.k.view(), c.v.view(), judging{});
    const causal score;
    const definition<float, causal> define(c.how, c.q.view(), c.k.view(), c.v.view(), score, 1);
    tensor<float> out = copy_of(judged.out());
    double widest = 0, truth = 0;
    float* at = nullptr;
    for (index_t i = 0; i < rows; ++i) {
        const judged_row row = define.row(0, i, 0);
        for (std::size_t d = 0; d < row.bound.size(); ++d)
            if (row.bound[d] > widest)
                widest = row.bound[d], truth = row.out[d], at = &out(0, i, 0, static_cast<index_t>(d));
    }
    *at = static_cast<float>(truth + 0.9 * widest);
    const report r = judged.compare(out.view(), judged.lse());
    CHECK(!r.passed);
    CHECK(r.worst_ratio <= 1);
    CHECK(r.max_from_serial <= r.allowed_from_serial);
}

TEST_CASE("a NaN, and an lse that is off, are found") {
    const judged_case c;
    const judge judged(flash{}, causal{}, c.how, c.q.view(), c.k.view(), c.v.view(), judging{});
    tensor<float> out = copy_of(judged.out()), lse = copy_of(judged.lse());
    CHECK(judged.compare(out.view(), lse.view()).passed);
    lse(0, 7, 0) += 0.001F;
    const report off = judged.compare(out.view(), lse.view());
    CHECK(!off.passed);
    CHECK(off.worst.component == -1);
    lse = copy_of(judged.lse());
    out(0, 7, 0, 3) = std::numeric_limits<float>::quiet_NaN();
    CHECK(!judged.compare(out.view(), lse.view()).passed);
}

TEST_CASE("a sample has the corners, and rows from everywhere") {
    const extents e{2, 500, 3, 8};
    const std::vector<sampled_row> sample = sample_rows(e, 200, 5);
    CHECK(sample.size() > 150);
    CHECK(sample.size() <= 200);
    std::array<int, 8> from{};
    for (const sampled_row& s : sample) ++from[static_cast<std::size_t>(s.b * 4 + s.i * 4 / e.seq)];
    for (const int count : from) CHECK(count > 5);
    for (const auto& [b, i, h] : {std::array<index_t, 3>{0, 0, 0}, {0, 0, 2}, {1, 499, 0}, {1, 499, 2}})
        CHECK(std::any_of(sample.begin(), sample.end(),
                          [b = b, i = i, h = h](const sampled_row& s) { return s.b == b && s.i == i && s.h == h; }));
    CHECK(sample_rows(e, 3000, 5).size() == 3000);
}
