/// @file
/// Sums that do not depend on their order.
#include <support/catch.hpp>

#include <seqpar/core/binned_sum.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

using seqpar::binned_sum;

namespace {

/// Normal numbers of all magnitudes, signs mixed.
[[nodiscard]] std::vector<double> numbers(std::size_t count, double spread, unsigned seed) {
    std::mt19937_64 bits(seed);
    std::normal_distribution<double> normal;
    std::vector<double> all(count);
    for (double& x : all) {
        const double magnitude = normal(bits) * spread;
        x = normal(bits) * std::exp2(magnitude);
    }
    return all;
}

[[nodiscard]] binned_sum sum_of(const std::vector<double>& all) {
    binned_sum sum;
    for (const double x : all) sum += x;
    return sum;
}

} // namespace

TEST_CASE("order and grouping do not change a bit") {
    for (const double spread : {0.0, 3.0, 10.0, 30.0, 200.0}) {
        std::vector<double> all = numbers(1000, spread, 7);
        const binned_sum want = sum_of(all);
        std::mt19937 shuffle(3);
        int plain_sums_differ = 0;
        double plain = 0;
        for (const double x : all) plain += x;
        for (int times = 0; times < 50; ++times) {
            std::ranges::shuffle(all, shuffle);
            // Some at a time, and those added up in a random order, too.
            std::vector<binned_sum> parts(1 + shuffle() % 9);
            for (const double x : all) parts[shuffle() % parts.size()] += x;
            binned_sum whole;
            for (const binned_sum& part : parts) whole += part;
            CHECK(whole == want);
            double again = 0;
            for (const double x : all) again += x;
            plain_sums_differ += again != plain;
        }
        if (spread < 20) CHECK(plain_sums_differ > 10); // else the largest decides
    }
}

TEST_CASE("a sum is as near to the true one as documented") {
    for (const double spread : {0.0, 10.0, 60.0}) {
        const std::vector<double> all = numbers(4000, spread, 11);
        long double want = 0, largest = 0, compensation = 0; // Neumaier's summation
        for (const double x : all) {
            const long double t = want + static_cast<long double>(x);
            compensation += std::abs(want) >= std::abs(x) ? (want - t) + static_cast<long double>(x)
                                                          : (static_cast<long double>(x) - t) + want;
            want = t;
            largest = std::max(largest, std::abs(static_cast<long double>(x)));
        }
        want += compensation;
        const auto got = static_cast<double>(sum_of(all));
        CHECK(std::abs(got - want) <= std::abs(want) * 0x1p-53L + 4000 * largest * 0x1p-63L);
        CHECK(got != 0);
    }
}

TEST_CASE("doubles come back as they were, far from 1 and between the normal numbers") {
    for (const double x :
         {1.0, -1.5, 0x1p-1074, -0x1.8p-1070, 0x1.fffffffffffffp1023, -0x1p-1022, 3.0e-200, 0x1p31, 0x1p32})
        CHECK(static_cast<double>(binned_sum(x)) == x);
    CHECK(static_cast<double>(binned_sum(0.0)) == 0);
    CHECK(binned_sum(0.0) == binned_sum());
    std::mt19937_64 bits(5);
    for (int n = 0; n < 2000; ++n) {
        const double x = std::bit_cast<double>(bits());
        if (std::isfinite(x)) CHECK(static_cast<double>(binned_sum(x)) == x);
    }
}

TEST_CASE("exponents reach far beyond those of double") {
    binned_sum large, small;
    large.add(1.5, 1'000'000), large.add(0.25, 1'000'001);
    small.add(-3, -9'000'000'000);
    CHECK(large.rounded().value * std::exp2(static_cast<double>(large.rounded().exponent - 1'000'000)) == 2);
    CHECK(static_cast<double>(large) == std::numeric_limits<double>::infinity());
    CHECK(static_cast<double>(small) == 0);
    CHECK(small.rounded().value < 0);
    large.add(-1.5, 1'000'000), large.add(-0.5, 1'000'000);
    CHECK(large.rounded().value == 0);
    // What is too small to count never counts, whatever comes first.
    binned_sum first, last;
    first.add(1, 0), first.add(1, 500);
    last.add(1, 500), last.add(1, 0);
    CHECK(first == last);
}

TEST_CASE("infinity and NaN are added as in floating point") {
    const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
    binned_sum x(3.0);
    x += inf;
    CHECK(static_cast<double>(x) == inf);
    x += 1e300;
    CHECK(static_cast<double>(x) == inf);
    binned_sum y(-inf);
    CHECK(static_cast<double>(y) == -inf);
    y += x;
    CHECK(std::isnan(static_cast<double>(y)));
    binned_sum z(2.0);
    z += nan;
    z += inf;
    CHECK(std::isnan(static_cast<double>(z)));
}

TEST_CASE("a million equal summands do not overflow a bin") {
    binned_sum sum;
    for (int n = 0; n < 1'000'000; ++n) sum += 0x1.fffffffffffffp0;
    CHECK(static_cast<double>(sum) == 1e6 * 0x1.fffffffffffffp0);
    // As many again and again: 2^31 summands in all.
    for (int doubled = 0; doubled < 11; ++doubled) {
        const binned_sum twice = sum;
        sum += twice;
    }
    CHECK(static_cast<double>(sum) == 2048e6 * 0x1.fffffffffffffp0);
}
