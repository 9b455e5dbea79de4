#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/core/tensor.hpp>

#include <cstdint>

using namespace seqpar;

TEST_CASE("views slice without copying") {
    auto x = testing::normal<float>({2, 9, 4, 5}, 7);
    const auto part = x.view().rows(1, 4, 2).heads(1, 2);
    CHECK(part.shape() == extents{2, 4, 2, 5});
    CHECK(&part(1, 3, 1, 4) == &x(1, 7, 2, 4));
    CHECK(reinterpret_cast<std::uintptr_t>(x.data()) % 64 == 0);
}

TEST_CASE("copy goes between formats and types") {
    const auto x = testing::normal<float>({2, 3, 4, 5}, 7);
    tensor<float> y({2, 3, 4, 5}, format::bhsd);
    tensor<bfloat16> z({2, 3, 4, 5});
    copy(x.view(), y.view());
    copy(x.view(), z.view());
    CHECK(y.data()[5] == x(0, 1, 0, 0)); // seq is next to head_dim
    for (index_t b = 0; b < 2; ++b)
        for (index_t s = 0; s < 3; ++s)
            for (index_t h = 0; h < 4; ++h)
                for (index_t d = 0; d < 5; ++d) {
                    REQUIRE(y(b, s, h, d) == x(b, s, h, d));
                    REQUIRE(z(b, s, h, d).bits() == bfloat16(x(b, s, h, d)).bits());
                }
}

TEST_CASE("rows go to their positions and come back") {
    const auto whole = testing::normal<double>({1, 12, 2, 3}, 1);
    const positions at{run{position(9), 1, 2}, run{position(0), 4, 2}};
    tensor<double> part({1, 4, 2, 3});
    take_rows(whole.view(), at, part.view());
    CHECK(part(0, 1, 1, 2) == whole(0, 10, 1, 2));
    CHECK(part(0, 3, 0, 1) == whole(0, 4, 0, 1));
    tensor<double> back({1, 12, 2, 3});
    put_rows(part.view(), at, back.view());
    for (const index_t row : {9, 10, 0, 4}) CHECK(back(0, row, 1, 1) == whole(0, row, 1, 1));
    CHECK(back(0, 1, 1, 1) == 0);
}

TEST_CASE("counted memory knows the peak") {
    counted_memory memory;
    {
        const tensor<float> a({1, 1, 1, 100}, format::bshd, &memory);
        const tensor<double> b({1, 1, 1, 10}, format::bshd, &memory);
        CHECK(memory.held() == 480);
    }
    CHECK(memory.held() == 0);
    CHECK(memory.peak() == 480);
    CHECK(memory.allocations() == 2);
    memory.reset_peak();
    CHECK(memory.peak() == 0);
}
