#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/attention.hpp>
#include <seqpar/backend/xtensor.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/strategy/ring.hpp>

#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>
#include <xtensor/xstrided_view.hpp>
#include <xtensor/xview.hpp>

#include <array>
#include <mutex>
#include <string>

using namespace seqpar;

namespace {

const extents shape{2, 5, 4, 6};

xt::xtensor<double, 4> random_xtensor(std::uint64_t seed) {
    const auto x = testing::normal<double>(shape, seed);
    xt::xtensor<double, 4> t(std::array<std::size_t, 4>{2, 5, 4, 6});
    std::copy_n(x.data(), shape.count(), t.data());
    return t;
}

} // namespace

TEST_CASE("tensors, arrays, adaptors and views go in without a copy, xt::xtensor comes out") {
    const xt::xtensor<double, 4> q = random_xtensor(1), k = random_xtensor(2), v = random_xtensor(3);
    attention attend{xtensor_backend<double>{}};
    const auto [out, lse, saved] = attend.forward(q, k, v);
    static_cast<void>(saved);
    static_assert(std::is_same_v<std::remove_cvref_t<decltype(out)>, xt::xtensor<double, 4>>);
    static_assert(std::is_same_v<std::remove_cvref_t<decltype(lse)>, xt::xtensor<double, 3>>);
    CHECK(lse.shape(1) == 4); // [batch, heads, seq]
    CHECK(lse.shape(2) == 5);

    const auto plain = testing::normal<double>(shape, 1), plain_k = testing::normal<double>(shape, 2),
               plain_v = testing::normal<double>(shape, 3);
    attention spans{span_backend<double>{}};
    const auto expected = spans.forward(plain, plain_k, plain_v);
    for (std::size_t s = 0; s < 5; ++s) {
        CHECK(out(1, s, 2, 3) == expected.out(1, static_cast<index_t>(s), 2, 3));
        CHECK(lse(1, 2, s) == expected.lse(1, static_cast<index_t>(s), 2));
    }

    const xt::xarray<double> q_array = q;
    const xt::xarray<double, xt::layout_type::column_major> k_fortran = k;
    const auto v_adapted = xt::adapt(v.data(), v.size(), xt::no_ownership(), std::array<std::size_t, 4>{2, 5, 4, 6});
    const auto mixed = attend.forward(q_array, k_fortran, v_adapted);
    CHECK(attend.backend().view(q_array).data() == q_array.data());
    CHECK(attend.backend().view(k_fortran).data() == k_fortran.data());
    for (std::size_t i = 0; i < out.size(); ++i) CHECK(mixed.out.data()[i] == out.data()[i]);

    const auto half = xt::strided_view(q, {xt::all(), xt::all(), xt::range(1, 3), xt::all()});
    const auto k_half = xt::view(k, xt::all(), xt::all(), xt::range(1, 3), xt::all());
    const auto v_half = xt::view(v, xt::all(), xt::all(), xt::range(1, 3), xt::all());
    const auto two_heads = attend.forward(half, k_half, v_half);
    for (std::size_t s = 0; s < 5; ++s) CHECK(two_heads.out(1, s, 0, 4) == out(1, s, 1, 4));
}

TEST_CASE("BHSD xtensors") {
    xt::xtensor<double, 4> bhsd(std::array<std::size_t, 4>{2, 4, 5, 6});
    const auto q = random_xtensor(1);
    for (std::size_t b = 0; b < 2; ++b)
        for (std::size_t s = 0; s < 5; ++s)
            for (std::size_t h = 0; h < 4; ++h)
                for (std::size_t d = 0; d < 6; ++d) bhsd(b, h, s, d) = q(b, s, h, d);
    attention attend{xtensor_backend<double>{}}, other{xtensor_backend<double>{format::bhsd}};
    const auto a = attend.forward(q, q, q), b = other.forward(bhsd, bhsd, bhsd);
    CHECK(b.out.shape(1) == 4);
    for (std::size_t s = 0; s < 5; ++s) CHECK(a.out(1, s, 3, 2) == b.out(1, 3, s, 2));
}

TEST_CASE("a tensor of another rank is refused on every rank") {
    std::mutex mutex;
    int refused = 0;
    threads::run(2, [&](thread_communicator world) {
        const xt::xarray<double> good = random_xtensor(1), bad = xt::ones<double>({5, 4, 6});
        attention attend{world, ring{}, xtensor_backend<double>{}};
        try {
            static_cast<void>(attend.forward(world.rank() == 1 ? bad : good, good, good));
        } catch (const refusal& why) {
            const std::lock_guard lock(mutex);
            CHECK(std::string(why.what()) ==
                  "rank 1: a tensor of 3 axes: attention takes 4, [batch, seq, heads, head_dim]");
            ++refused;
        }
    });
    CHECK(refused == 2);
}
