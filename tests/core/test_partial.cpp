#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/core/partial.hpp>

#include <cmath>
#include <limits>

using namespace seqpar;

namespace {

constexpr extents shape{1, 3, 2, 4};
constexpr double infinity = std::numeric_limits<double>::infinity();

/// A partial of one key per row: score x (in log2), value v.
partial<double> one_key(std::uint64_t seed) {
    const auto scores = testing::normal<double>({1, 3, 2, 1}, seed);
    const auto values = testing::normal<double>(shape, seed + 100);
    partial<double> p(shape);
    for (index_t i = 0; i < 3; ++i)
        for (index_t h = 0; h < 2; ++h) p.fold(0, i, h, 20 * scores(0, i, h), 1.0, values.view().at(0, i, h));
    return p;
}

void check_same(const partial<double>& a, const partial<double>& b) {
    tensor<double> out_a(shape), out_b(shape), lse_a({1, 3, 2, 1}), lse_b({1, 3, 2, 1});
    a.finish(out_a.view(), lse_a.view());
    b.finish(out_b.view(), lse_b.view());
    for (index_t i = 0; i < shape.count(); ++i) CHECK(out_a.data()[i] == Approx(out_b.data()[i]).epsilon(1e-14));
    for (index_t i = 0; i < 6; ++i) CHECK(lse_a.data()[i] == Approx(lse_b.data()[i]).epsilon(1e-14));
}

} // namespace

TEST_CASE("merge is associative and commutative, and the identity changes nothing") {
    const auto merged = [](std::initializer_list<std::uint64_t> seeds) {
        partial<double> p(shape);
        for (const auto seed : seeds) p.merge(one_key(seed));
        return p;
    };
    check_same(merged({1, 2, 3}), merged({3, 1, 2}));
    partial<double> right = one_key(2), left = one_key(1);
    right.merge(one_key(3));
    left.merge(right); // 1 + (2 + 3)
    check_same(left, merged({1, 2, 3}));

    partial<double> p = one_key(4);
    p.merge(partial<double>(shape));
    for (index_t i = 0; i < 3; ++i) CHECK(p.max()(0, i, 0) == one_key(4).max()(0, i, 0));
    check_same(p, one_key(4));
}

TEST_CASE("merge of two keys is their softmax") {
    partial<double> p({1, 1, 1, 1});
    const double a = 3, b = 7;
    p.fold(0, 0, 0, 1.5, 1, &a);
    p.fold(0, 0, 0, -2.25, 1, &b);
    tensor<double> out({1, 1, 1, 1}), lse({1, 1, 1, 1});
    p.finish(out.view(), lse.view());
    const double wa = std::exp2(1.5), wb = std::exp2(-2.25);
    CHECK(out(0, 0, 0) == Approx((wa * a + wb * b) / (wa + wb)).epsilon(1e-15));
    CHECK(lse(0, 0, 0) == Approx(std::log(wa + wb)).epsilon(1e-15)); // natural, not base 2
}

TEST_CASE("any reference near the maximum means the same softmax") {
    partial<double> p({1, 1, 1, 1}), r({1, 1, 1, 1});
    const double a = 3, b = 12; // b: the value 3 kept with reference 2 below, so weight 4
    p.fold(0, 0, 0, 5, 1, &a);
    r.fold(0, 0, 0, 3, 4, &b);
    tensor<double> out_p({1, 1, 1, 1}), lse_p({1, 1, 1, 1}), out_r({1, 1, 1, 1}), lse_r({1, 1, 1, 1});
    p.finish(out_p.view(), lse_p.view());
    r.finish(out_r.view(), lse_r.view());
    CHECK(out_p(0, 0, 0) == Approx(out_r(0, 0, 0)));
    CHECK(lse_p(0, 0, 0) == Approx(lse_r(0, 0, 0)));
}

TEST_CASE("a row that has seen nothing gives zero and minus infinity, and never NaN") {
    partial<float> p({1, 2, 1, 3});
    p.merge(partial<float>({1, 2, 1, 3}));
    tensor<float> out({1, 2, 1, 3}), lse({1, 2, 1, 1});
    for (index_t i = 0; i < 6; ++i) out.data()[i] = 5;
    p.finish(out.view(), lse.view());
    for (index_t i = 0; i < 6; ++i) CHECK(out.data()[i] == 0);
    for (index_t i = 0; i < 2; ++i) CHECK(lse.data()[i] == -std::numeric_limits<float>::infinity());
}

TEST_CASE("NaN in one partial is not lost in a merge, in either order") {
    const double nan = std::numeric_limits<double>::quiet_NaN(), one = 1;
    for (const bool first : {true, false}) {
        partial<double> p({1, 1, 1, 1});
        if (!first) p.fold(0, 0, 0, 2, 1, &one);
        p.fold(0, 0, 0, nan, nan, &nan);
        if (first) p.fold(0, 0, 0, 2, 1, &one);
        tensor<double> out({1, 1, 1, 1});
        p.finish(out.view(), {});
        CHECK(std::isnan(out(0, 0, 0)));
    }
    partial<double> p({1, 1, 1, 1}); // +inf - inf, as a kernel reports it
    p.fold(0, 0, 0, infinity, nan, &nan);
    p.fold(0, 0, 0, 2, 1, &one);
    tensor<double> out({1, 1, 1, 1});
    p.finish(out.view(), {});
    CHECK(std::isnan(out(0, 0, 0)));
}
