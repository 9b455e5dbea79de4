#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/attention.hpp>

#include <vector>

using namespace seqpar;

TEST_CASE("raw memory with any strides is taken without a copy") {
    // [batch, heads, head_dim, seq]: nobody's format, but strides say it all
    const auto dense = testing::normal<float>({2, 6, 3, 4}, 1);
    std::vector<float> odd(2 * 3 * 4 * 6);
    const tensor_view<float> view(odd.data(), {2, 6, 3, 4}, strides{72, 1, 24, 6});
    copy(dense.view(), view);
    attention attend{};
    const auto a = attend.forward(dense, dense, dense), b = attend.forward(view, view, view);
    for (index_t i = 0; i < dense.shape().count(); ++i) CHECK(a.out.data()[i] == b.out.data()[i]);
    CHECK(a.out.data()[20] != 0);
    CHECK(attend.backend().view(view).data() == odd.data());
}
