/// Dropout: its bits are those of Philox4x32-10 by a second implementation, its statistics are those of its rate, and every
/// strategy, layout, kernel and number of ranks drops the same weights.
#include <support/catch.hpp>
#include <support/gradient_case.hpp>

#include <strategy/thread_product.hpp>

#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/dropout.hpp>
#include <seqpar/seqpar.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

using counter = std::array<std::uint32_t, 4>;

/// Philox4x32-10, written from the paper (Salmon et al. 2011, section 3.3).
counter philox(counter c, std::array<std::uint32_t, 2> key) {
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0], b = std::uint64_t{0xCD9E8D57} * c[2];
        c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
             static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
        key[0] += 0x9E3779B9, key[1] += 0xBB67AE85;
    }
    return c;
}

/// The factor of one weight, from the documentation of dropout.
double factor(double rate, std::uint64_t seed, index_t b, index_t h, index_t i, index_t j) {
    const auto word = [](index_t n) { return static_cast<std::uint32_t>(n); };
    const counter bits = philox({word(j / 4), word(i), word(h), word(b)},
                                {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
    return bits[static_cast<std::size_t>(j % 4)] < rate * 4294967296.0 ? 0 : 1 / (1 - rate);
}

/// Which weights of a row are kept, by the library.
std::vector<double> kept(const dropout& by, index_t b, index_t h, index_t i, const run& keys, lengths n = {}) {
    std::vector<double> z(static_cast<std::size_t>(keys.count), -1.0);
    by.drop(score_row{n, b, h, position(i), keys}, std::span<double>(z));
    return z;
}

} // namespace

TEST_CASE("the second implementation gives the generator's published answers") {
    // kat_vectors of Random123: philox4x32 10
    CHECK(philox({0, 0, 0, 0}, {0, 0}) == counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(philox({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}) == counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("what is dropped is a function of seed, batch, head, query and key, however keys are asked for") {
    for (const double rate : {0.1, 0.5, 0.93})
        for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{7}, std::uint64_t{0xfedcba9876543210}}) {
            const dropout by(rate, seed);
            for (const run& keys :
                 {run{position(0), 1, 40}, run{position(3), 1, 9}, run{position(5), 3, 11}, run{position(2), 4, 7},
                  run{position(1), 7, 6}, run{position(12'000'000'001), 2, 5}})
                for (const index_t i : {index_t{0}, index_t{17}, index_t{3'000'000'000}})
                    for (index_t h = 0; h < 3; ++h) {
                        const std::vector<double> z = kept(by, 1, h, i, keys);
                        // the same in a document that begins in the whole at (11, 6): positions count from there
                        const run moved{position(keys.first.value + 6), keys.stride, keys.count};
                        const std::vector<double> inside = kept(by, 1, h, i, keys, {0, 0, position(11), position(6)});
                        for (index_t j = 0; j < keys.count; ++j) {
                            const auto n = static_cast<std::size_t>(j);
                            REQUIRE(z[n] == factor(rate, seed, 1, h, i, keys[j].value));
                            REQUIRE(inside[n] == factor(rate, seed, 1, h, i + 11, moved[j].value));
                        }
                    }
        }
}

TEST_CASE("so many are dropped as the rate says, neighbours of all kinds independently of each other") {
    const index_t rows = 64, keys = 512;
    for (const double rate : {0.05, 0.1, 0.5, 0.9}) {
        const dropout by(rate, 3), other(rate, 4);
        // how often two are dropped together: next key, query, head, batch entry, and the same with another seed
        std::array<double, 5> together{};
        double dropped = 0, count = 0, mean = 0;
        const run all{position(0), 1, keys};
        for (index_t h = 0; h < 2; ++h)
            for (index_t i = 0; i < rows; ++i) {
                const auto z = kept(by, 0, h, i, all), next = kept(by, 0, h, i + 1, all),
                           head = kept(by, 0, h + 1, i, all), batch = kept(by, 1, h, i, all),
                           seed = kept(other, 0, h, i, all);
                for (std::size_t j = 0; j + 1 < z.size(); ++j) {
                    ++count, mean += z[j];
                    if (z[j] != 0) continue;
                    ++dropped;
                    const std::array<double, 5> beside{z[j + 1], next[j], head[j], batch[j], seed[j]};
                    for (std::size_t n = 0; n < beside.size(); ++n) together[n] += beside[n] == 0;
                }
            }
        INFO("rate " << rate);
        const auto off = [&](double part) { // five standard deviations of a part of the count
            return 5 * std::sqrt(part * (1 - part) / count);
        };
        CHECK(std::abs(dropped / count - rate) < off(rate));
        CHECK(std::abs(mean / count - 1) < off(rate) / (1 - rate)); // weights keep their mean
        // a chain of neighbours counts each pair's members twice: twice the deviation of independent pairs
        for (const double pairs : together) CHECK(std::abs(pairs / count - rate * rate) < 2 * off(rate * rate));
    }
}

TEST_CASE("every strategy, layout, kernel and number of ranks drops the same weights, forward and backward") {
    const attention_shape shape{2, 21, 26, 6, 3, 5, 7};
    const std::uint64_t seed = 0x123456789abcdef0;
    const auto check = [&](const any_score& s, const naive_score& truth) {
        for (const any_layout& layout : all_layouts())
            for (const int p : {1, 2, 3, 5}) {
                const gradient_case<double> c(shape, layout, s, true, p, truth);
                CHECK(said_by_ranks(p, [&](thread_communicator world) {
                          return c.trouble_with(world, ring{}, flash{}, saving::resend) +
                                 c.trouble_with(world, ring{}, reference{}, saving::keep) +
                                 c.trouble_with(world, all_gather{}, flash{}, saving::keep) +
                                 c.trouble_with(world, all_gather{1}, reference{}, saving::resend) +
                                 c.trouble_with(world, ulysses<>{}, flash{}, saving::resend) +
                                 c.trouble_with(world, tree{}, flash{}, saving::resend);
                      }) == "");
            }
    };
    naive_score alone{[](index_t, index_t) { return true; }};
    alone.z = [&](index_t b, index_t h, index_t i, index_t j) { return factor(0.4, seed, b, h, i, j); };
    check(dropout(0.4, seed), alone);
    naive_score packed = alone;
    packed.sees = [](index_t i, index_t j) { return i < 9 ? j <= i && j < 11 : j >= 11 && j - 11 <= i - 9; };
    check(any_score(dropout(0.4, seed)) & documents<>({0, 9, 21}, {0, 11, 26}) & causal{}, packed);
}

TEST_CASE("NaN and infinity of a dropped value do not reach the row, of a kept one they do") {
    const dropout by(0.5, 21);
    const auto check = [&](const auto& kernel, auto element) {
        using T = decltype(element);
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
            tensor<T> v = normal<T>({1, 30, 1, 4}, 3);
            for (index_t d = 0; d < 4; ++d) v(0, 13, 0, d) = static_cast<T>(bad);
            attention attend{serial{}, kernel, by, span_backend<T>{}};
            const auto r = attend.forward(normal<T>({1, 25, 2, 6}, 1), normal<T>({1, 30, 1, 6}, 2), v);
            index_t spoilt = 0;
            for (index_t h = 0; h < 2; ++h)
                for (index_t i = 0; i < 25; ++i) {
                    const bool reaches = factor(0.5, 21, 0, h, i, 13) != 0;
                    spoilt += reaches;
                    REQUIRE(std::isfinite(static_cast<double>(r.lse(0, i, h))));
                    for (index_t d = 0; d < 4; ++d)
                        REQUIRE(std::isfinite(static_cast<double>(r.out(0, i, h, d))) != reaches);
                }
            REQUIRE((spoilt > 10 && spoilt < 40));
        }
    };
    check(reference{}, double{});
    check(flash{}, double{});
    check(reference{}, float{});
    check(flash{}, float{});
    check(flash{}, bfloat16{});
}

TEST_CASE("dropout of nothing changes no bit, and a rate that makes no sense is refused") {
    CHECK_FALSE(dropout(0).drops());
    CHECK_FALSE(changes_values(dropout(0)));
    const auto refused = [](double rate) -> std::string {
        try {
            dropout(rate).check();
        } catch (const refusal& why) {
            return why.what();
        }
        return {};
    };
    for (const double rate : {0.0, 0.1, 0.999999}) CHECK(refused(rate).empty());
    CHECK(refused(1).find("dropout of 1: allowed are 0 to below 1") != std::string::npos);
    CHECK(refused(-0.1).find("dropout of -0.1") != std::string::npos);
    CHECK(refused(std::numeric_limits<double>::quiet_NaN()).find("0 to below 1") != std::string::npos);
    CHECK_THROWS_AS(dropout(0.1).check(attention_shape{1, 10, (index_t{1} << 34) + 1, 1, 1, 1, 1}), refusal);
    CHECK_NOTHROW(dropout(0.1).check(attention_shape{1, index_t{1} << 32, index_t{1} << 34, 1, 1, 1, 1}));
}
