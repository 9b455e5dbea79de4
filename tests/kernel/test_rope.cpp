/// Rotary embedding against complex arithmetic, its inverse, and the same rows under every layout.
#include <support/catch.hpp>

#include <support/random.hpp>
#include <support/refused.hpp>

#include <seqpar/core/rows.hpp>
#include <seqpar/kernel/rope.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

/// Elements of pair j.
std::pair<index_t, index_t> pair_of(const rope& how, index_t dims, index_t j) {
    return how.pairing == rope_pairing::half ? std::pair(j, j + dims / 2) : std::pair(2 * j, 2 * j + 1);
}

/// Largest difference of two tensors.
template <class A, class B>
double difference(const A& a, const B& b) {
    double worst = 0;
    const extents e = a.shape();
    REQUIRE(e == b.shape());
    for (index_t n = 0; n < e.batch; ++n)
        for (index_t s = 0; s < e.seq; ++s)
            for (index_t h = 0; h < e.heads; ++h)
                for (index_t d = 0; d < e.dim; ++d)
                    worst = std::max(worst,
                                     std::abs(static_cast<double>(a(n, s, h, d)) - static_cast<double>(b(n, s, h, d))));
    return worst;
}

template <class T>
tensor<T> copied(const tensor<T>& x) {
    tensor<T> y(x.shape());
    copy(x.view(), y.view());
    return y;
}

std::vector<rope> ropes() {
    return {rope{}, rope{.pairing = rope_pairing::half}, rope{.base = 500000, .dims = 6, .scaling = 8, .offset = 100},
            rope{.base = 500, .pairing = rope_pairing::half, .dims = 4, .scaling = 0.5, .offset = -3}};
}

} // namespace

TEMPLATE_TEST_CASE("rope is a product of complex numbers", "", float, double, bfloat16) {
    using T = TestType;
    const double tolerance = 8 * element_traits<T>::roundoff; // of elements below 4
    const extents e{2, 19, 3, 10};
    const origin at{{run{position(2), 3, 9}, run{position(100'000), 1, 10}}, {0, 3}};
    const tensor<T> x = normal<T>(e, 7);
    for (const rope& how : ropes()) {
        tensor<T> y = copied(x);
        how.apply(block<T>{y.view(), at});
        const index_t dims = how.dims == 0 ? e.dim : how.dims;
        double worst = 0, moved = 0;
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t s = 0; s < e.seq; ++s)
                for (index_t h = 0; h < e.heads; ++h) {
                    const long double p = static_cast<long double>(at.rows[s].value + how.offset) / how.scaling;
                    for (index_t j = 0; j < dims / 2; ++j) {
                        const auto [i, k] = pair_of(how, dims, j);
                        const long double angle =
                            p * std::pow(static_cast<long double>(how.base),
                                         -2.0L * static_cast<long double>(j) / static_cast<long double>(dims));
                        const std::complex<long double> z(static_cast<long double>(x(b, s, h, i)),
                                                          static_cast<long double>(x(b, s, h, k)));
                        const auto want = z * std::polar(1.0L, angle);
                        const std::complex<long double> have(static_cast<long double>(y(b, s, h, i)),
                                                             static_cast<long double>(y(b, s, h, k)));
                        // the angle has three roundings in double
                        worst = std::max(worst, static_cast<double>(std::abs(have - want)) -
                                                    static_cast<double>(std::abs(angle) * std::abs(z) * 0x1p-51L));
                        moved = std::max(moved, static_cast<double>(std::abs(want - z)));
                    }
                    for (index_t d = dims; d < e.dim; ++d)
                        CHECK(static_cast<float>(y(b, s, h, d)) == static_cast<float>(x(b, s, h, d)));
                }
        CHECK(worst < tolerance);
        CHECK(moved > 1);

        tensor<T> elsewhere(e, format::bhsd);
        how.apply(block<const T>{x.view(), at}, elsewhere.view());
        CHECK(difference(elsewhere.view(), y.view()) == 0);

        how.invert(block<T>{y.view(), at});
        CHECK(difference(x.view(), y.view()) < 2 * tolerance);
    }
}

TEST_CASE("the inverse is the gradient: it is the transpose of the rotation") {
    const extents e{1, 12, 2, 8};
    const origin at{{run{position(5), 7, 12}}, {0, 2}};
    const tensor<double> x = normal<double>(e, 1), dy = normal<double>(e, 2);
    for (const rope& how : ropes()) {
        tensor<double> y(e), dx(e);
        how.apply(block<const double>{x.view(), at}, y.view());
        how.invert(block<const double>{dy.view(), at}, dx.view());
        double forward = 0, backward = 0; // <dy, R x> = <R^T dy, x>
        for (index_t i = 0; i < e.count(); ++i)
            forward += dy.data()[i] * y.data()[i], backward += dx.data()[i] * x.data()[i];
        CHECK(std::abs(forward) > 1e-3);
        CHECK(std::abs(forward - backward) < 1e-12);
    }
}

TEST_CASE("shards under every layout are rotated as the whole is, bit for bit") {
    constexpr index_t n = 37;
    const extents e{2, n, 3, 10};
    const tensor<float> x = normal<float>(e, 3);
    for (const rope& how : ropes()) {
        tensor<float> whole = copied(x);
        const origin all{positions::whole(n), {0, 3}};
        how.apply(block<float>{whole.view(), all});
        for (const any_layout& layout : {any_layout(contiguous{}), any_layout(zigzag{}), any_layout(striped{})})
            for (const int size : {1, 2, 3, 4, 7, 40}) {
                tensor<float> joined(e);
                for (int rank = 0; rank < size; ++rank) {
                    const origin at{layout.positions(rank, size, n), {0, 3}};
                    tensor<float> mine({e.batch, at.rows.size(), e.heads, e.dim});
                    take_rows(x.view(), at.rows, mine.view());
                    how.apply(block<float>{mine.view(), at});
                    put_rows(mine.view(), at.rows, joined.view());
                }
                CHECK(difference(joined.view(), whole.view()) == 0);
            }
    }
}

TEST_CASE("products of rotated rows depend on their distance only") {
    const extents e{1, 1, 1, 10};
    const tensor<double> q = normal<double>(e, 1), k = normal<double>(e, 2);
    const auto dot = [&](const rope& how, index_t i, index_t j) {
        tensor<double> a(e), b(e);
        const origin at_i{{run{position(i), 1, 1}}, {0, 1}}, at_j{{run{position(j), 1, 1}}, {0, 1}};
        how.apply(block<const double>{q.view(), at_i}, a.view());
        how.apply(block<const double>{k.view(), at_j}, b.view());
        double sum = 0;
        for (index_t d = 0; d < e.dim; ++d) sum += a(0, 0, 0, d) * b(0, 0, 0, d);
        return sum;
    };
    for (const rope& how : ropes()) {
        CHECK(std::abs(dot(how, 3, 10) - dot(how, 1003, 1010)) < 1e-11);
        CHECK(std::abs(dot(how, 50, 20) - dot(how, 31, 1)) < 1e-11);
        CHECK(std::abs(dot(how, 3, 10) - dot(how, 3, 11)) > 1e-4);
        CHECK(std::abs(dot(how, 3, 10) - dot(how, 10, 3)) > 1e-4);
    }
    // an offset is a shift of all positions, a scaling a division of them
    CHECK(dot(rope{.offset = 9}, 3, 10) == Approx(dot(rope{}, 12, 19)).epsilon(1e-12));
    CHECK(dot(rope{.scaling = 4}, 12, 40) == Approx(dot(rope{}, 3, 10)).epsilon(1e-12));
}

TEST_CASE("a rope that makes no sense is refused") {
    tensor<float> odd = normal<float>({1, 3, 1, 7}, 1);
    const origin at{positions::whole(3), {0, 1}}, other{positions::whole(4), {0, 1}};
    CHECK(refused([&] {
              rope{}.apply(block<float>{odd.view(), at});
          }) == "rope rotates pairs, and was given 7 elements of a head_dim of 7: allowed are even numbers up to 6");
    CHECK(refused([&] { rope{.dims = 6}.apply(block<float>{odd.view(), at}); }) == "");
    CHECK(refused([] { rope{.dims = 10}.check(8); }).find("10 elements of a head_dim of 8") != std::string::npos);
    CHECK(refused([] { rope{.dims = -2}.check(8); }).find("-2") != std::string::npos);
    CHECK(refused([] { rope{.base = 0}.check(8); }).find("base 0") != std::string::npos);
    CHECK(refused([] { rope{.scaling = -1}.check(8); }).find("scaling -1") != std::string::npos);
    CHECK(refused([&] {
              rope{.dims = 6}.apply(block<float>{odd.view(), other});
          }).find("3 rows and 4 positions") != std::string::npos);
    tensor<float> small({1, 2, 1, 7});
    CHECK(refused([&] {
              rope{.dims = 6}.apply(block<const float>{std::as_const(odd).view(), at}, small.view());
          }).find("must be equal") != std::string::npos);
}
