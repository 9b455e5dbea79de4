#include <support/catch.hpp>

#include <seqpar/core/element.hpp>
#include <seqpar/core/tensor.hpp>

#include <cmath>
#include <limits>

using namespace seqpar;

TEST_CASE("bfloat16 rounds to nearest, ties to even") {
    CHECK(static_cast<float>(bfloat16(1.0f)) == 1.0f);
    CHECK(bfloat16(1.0f + 0x1p-8f).bits() == bfloat16(1.0f).bits());                  // tie, down to even
    CHECK(static_cast<float>(bfloat16(1.0f + 3 * 0x1p-8f)) == 1.0f + 0x1p-6f);        // tie, up to even
    CHECK(static_cast<float>(bfloat16(1.0f + 0x1p-8f + 0x1p-20f)) == 1.0f + 0x1p-7f); // above the tie
    CHECK(static_cast<float>(bfloat16(-3.0f)) == -3.0f);
    CHECK(static_cast<float>(bfloat16(std::numeric_limits<float>::max())) == std::numeric_limits<float>::infinity());
    CHECK(std::isnan(static_cast<float>(bfloat16(std::numeric_limits<float>::quiet_NaN()))));
    CHECK(
        std::isnan(static_cast<float>(bfloat16(std::bit_cast<float>(0x7f800001U))))); // payload in the lower half only
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const auto x = bfloat16::from_bits(static_cast<std::uint16_t>(bits));
        const float wide = x;
        if (!std::isnan(wide)) REQUIRE(bfloat16(wide).bits() == bits);
    }
}

TEST_CASE("a ghost has a wire size and no storage") {
    tensor<ghost<bfloat16>> x({2, 1'000'000'000, 64, 128});
    CHECK(x.data() == nullptr);
    CHECK(x.view().wire_bytes() == std::size_t{2} * 1'000'000'000 * 64 * 128 * 2);
    CHECK(tensor<ghost<double>>::bytes({1, 2, 3, 4}) == 0);
    CHECK(x.view().rows(5, 10, 3).heads(2, 4).wire_bytes() == std::size_t{2} * 10 * 4 * 128 * 2);
}
