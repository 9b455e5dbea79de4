/// Arrays that are added to scores or hide keys: every broadcast and stride, what hides, what is read, what is refused.
#include <support/catch.hpp>
#include <support/gradient_case.hpp>
#include <support/same_bits.hpp>

#include <strategy/thread_product.hpp>

#include <seqpar/kernel/reference.hpp>
#include <seqpar/seqpar.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const attention_shape whole{2, 19, 23, 4, 2, 6, 5};

/// Normal numbers, a fifth of them -inf; for a mask, a fifth of them false. Not a std::vector<bool>, which is no array.
template <class E>
std::unique_ptr<E[]> random_array(index_t count) {
    std::unique_ptr<E[]> array(new E[static_cast<std::size_t>(count)]);
    std::mt19937 bits(5);
    std::normal_distribution<double> normal;
    for (index_t n = 0; n < count; ++n) {
        const bool hidden = bits() % 5 == 0;
        if constexpr (std::is_same_v<E, bool>)
            array[static_cast<std::size_t>(n)] = !hidden;
        else
            array[static_cast<std::size_t>(n)] = static_cast<E>(hidden ? -infinity : normal(bits));
    }
    return array;
}

template <class E>
double meaning(E x) {
    if constexpr (std::is_same_v<E, bool>) return x ? 0 : -infinity;
    return static_cast<double>(x);
}

/// One rank, in T.
template <class T, class Kernel>
auto attend_with(const any_score& s, const Kernel& kernel, const tensor<T>& k) {
    attention attend{serial{}, kernel, s, span_backend<T>{}};
    return attend.forward(normal<T>({2, 19, 4, 6}, 1), k, normal<T>({2, 23, 2, 5}, 3));
}

std::string unfit(const any_score& s) {
    try {
        s.check(whole);
    } catch (const refusal& why) {
        return why.what();
    }
    return {};
}

} // namespace

TEMPLATE_TEST_CASE("a bias of every broadcast and in every order of memory is what it says", "", float, double, bool) {
    using shape = typename bias<TestType>::shape;
    for (const index_t batch : {index_t{1}, whole.batch})
        for (const index_t heads : {index_t{1}, whole.heads}) {
            const index_t queries = whole.queries, keys = whole.keys;
            const auto array = random_array<TestType>(batch * heads * queries * keys);
            const shape of{batch, heads, queries, keys};
            // As it is written; its transpose, [keys, queries, batch, heads]; and from its last element backwards.
            const std::vector<shape> orders{{heads * queries * keys, queries * keys, keys, 1},
                                            {heads, 1, batch * heads, queries * batch * heads},
                                            {-heads * queries * keys, -queries * keys, -keys, -1}};
            for (std::size_t order = 0; order < orders.size(); ++order) {
                const shape step = orders[order];
                const TestType* first = array.get() + (order == 2 ? batch * heads * queries * keys - 1 : 0);
                const auto at = [=, &array](index_t b, index_t h, index_t i, index_t j) {
                    const index_t n = (batch == 1 ? 0 : b * step.batch) + (heads == 1 ? 0 : h * step.heads) +
                                      i * step.queries + j * step.keys;
                    static_cast<void>(array);
                    return meaning(first[n]);
                };
                naive_score truth{[](index_t i, index_t j) { return j <= i + 4; }};
                truth.bias = at;
                const any_score s = any_score(causal{alignment::bottom_right()}) & bias<TestType>(first, of, step);
                const gradient_case<double> exact(whole, any_layout(striped{}), s, true, 3, truth);
                CHECK(said_by_ranks(3, [&](thread_communicator world) {
                          return exact.trouble_with(world, ring{}, reference{}, saving::resend) +
                                 exact.trouble_with(world, ulysses<>{}, flash{}, saving::keep);
                      }) == "");
                if (order == 0) { // dense: strides may be left out
                    const any_score dense =
                        any_score(causal{alignment::bottom_right()}) & bias<TestType>(array.get(), of);
                    const gradient_case<float> c(whole, any_layout(zigzag{}), dense, false, 2, truth);
                    CHECK(said_by_ranks(2, [&](thread_communicator world) {
                              return c.trouble_with(world, all_gather{}, flash{}, saving::resend);
                          }) == "");
                }
            }
        }
}

TEST_CASE("what a bias hides is hidden, whatever its score, its element and the type of the sums") {
    const auto check = [](auto zero, auto low, auto element) {
        using T = decltype(zero);
        using E = decltype(element);
        INFO(element_traits<T>::name << ", lowest " << static_cast<double>(low) << ", bias of " << sizeof(E)
                                     << " bytes");
        // Row 3 sees nothing, row 5 only key 7, and key 2 is hidden from all.
        std::vector<E> array(19 * 23, E{0.5});
        for (std::size_t j = 0; j < 23; ++j) {
            array[3 * 23 + j] = static_cast<E>(low);
            if (j != 7) array[5 * 23 + j] = static_cast<E>(low);
        }
        for (std::size_t i = 0; i < 19; ++i) array[i * 23 + 2] = static_cast<E>(low);
        const bias<E> s(array.data(), {1, 1, 19, 23});
        for (const double bad : {0.0, infinity, std::numeric_limits<double>::quiet_NaN()}) {
            tensor<T> k = normal<T>({2, 23, 2, 6}, 2);
            for (index_t d = 0; bad != 0 && d < 6; ++d) k(1, 2, 0, d) = static_cast<T>(static_cast<float>(bad));
            const auto one = [&](const auto& kernel) {
                const auto r = attend_with<T>(s, kernel, k);
                const tensor<T> v = normal<T>({2, 23, 2, 5}, 3);
                for (index_t b = 0; b < 2; ++b)
                    for (index_t h = 0; h < 4; ++h) {
                        REQUIRE(r.lse(b, 3, h) == -std::numeric_limits<accumulator_t<T>>::infinity());
                        REQUIRE(std::isfinite(r.lse(b, 5, h)));
                        for (index_t i = 0; i < 19; ++i)
                            for (index_t d = 0; d < 5; ++d)
                                REQUIRE(std::isfinite(static_cast<double>(r.out(b, i, h, d))));
                        for (index_t d = 0; d < 5; ++d) {
                            REQUIRE(static_cast<double>(r.out(b, 3, h, d)) == 0);
                            REQUIRE(static_cast<double>(r.out(b, 5, h, d)) ==
                                    Approx(static_cast<double>(v(b, 7, h / 2, d))).epsilon(0.01));
                        }
                    }
            };
            one(reference{});
            one(flash{});
        }
    };
    const double single = static_cast<double>(std::numeric_limits<float>::lowest());
    for (const double low : {-infinity, single}) {
        check(float{}, low, float{});
        check(double{}, low, float{});
        check(bfloat16{}, low, float{});
        check(float{}, low, double{});
        check(double{}, low, double{});
    }
    for (const double low : {std::numeric_limits<double>::lowest(), -1e200}) {
        check(float{}, low, double{});
        check(double{}, low, double{});
    }
}

TEST_CASE("a rank reads of a bias only what its rows, heads and keys need") {
    // Each rank has an array of its own in which the parts of the others are NaN.
    const index_t heads = whole.heads, queries = whole.queries, keys = whole.keys;
    const auto array = random_array<float>(heads * queries * keys);
    const bias<float>::shape of{1, heads, queries, keys};
    const auto check = [&](int ranks, const auto& strategy, const auto& needs) {
        CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                  const positions rows = striped{}.positions(world.rank(), ranks, queries),
                                  of_keys = striped{}.positions(world.rank(), ranks, keys);
                  std::vector<float> part(static_cast<std::size_t>(heads * queries * keys));
                  for (index_t h = 0; h < heads; ++h)
                      for (index_t i = 0; i < queries; ++i)
                          for (index_t j = 0; j < keys; ++j) {
                              const auto n = static_cast<std::size_t>((h * queries + i) * keys + j);
                              part[n] =
                                  needs(world.rank(), h, i, j) ? array[n] : std::numeric_limits<float>::quiet_NaN();
                          }
                  const tensor<float> q = local_rows(normal<float>({2, 19, 4, 6}, 1), rows),
                                      k = local_rows(normal<float>({2, 23, 2, 6}, 2), of_keys),
                                      v = local_rows(normal<float>({2, 23, 2, 5}, 3), of_keys);
                  const auto result = [&](const float* from) {
                      attention attend{world, strategy, striped{}, bias<float>(from, of), span_backend<float>{}};
                      auto fwd = attend.forward(q, k, v);
                      auto g = attend.backward(fwd.out, fwd);
                      return std::make_pair(std::move(fwd), std::move(g));
                  };
                  const auto all = result(array.get()), own = result(part.data());
                  const bool same = same_bits(all.first.out, own.first.out) &&
                                    same_bits(all.first.lse, own.first.lse) &&
                                    same_bits(all.second.dq, own.second.dq) &&
                                    same_bits(all.second.dk, own.second.dk) && same_bits(all.second.dv, own.second.dv);
                  return same ? std::string() : strategy.name() + " reads what it does not need\n";
              }) == "");
    };
    check(3, ring{}, [](int rank, index_t, index_t i, index_t) { return i % 3 == rank; });
    check(3, all_gather{}, [](int rank, index_t, index_t i, index_t) { return i % 3 == rank; });
    check(3, tree{}, [](int rank, index_t, index_t, index_t j) { return j % 3 == rank; });
    check(2, ulysses<>{}, [](int rank, index_t h, index_t, index_t) { return h / 2 == rank; });
}

TEST_CASE("inside documents a bias keeps the indices of the whole sequence, wherever it is asked from") {
    const auto array = random_array<double>(19 * 23);
    const any_score s = any_score(bias<double>(array.get(), {1, 1, 19, 23})) & documents<>({0, 7, 19}, {0, 10, 23});
    naive_score truth{[](index_t i, index_t j) { return (i < 7) == (j < 10); }};
    truth.bias = [&](index_t, index_t, index_t i, index_t j) { return array[static_cast<std::size_t>(i * 23 + j)]; };
    for (const any_layout& layout : all_layouts()) {
        const gradient_case<double> c(whole, layout, s, true, 4, truth);
        CHECK(said_by_ranks(4, [&](thread_communicator world) {
                  return c.trouble_with(world, ring{}, flash{}, saving::resend) +
                         c.trouble_with(world, ulysses<all_gather>{2, {}}, reference{}, saving::keep);
              }) == "");
    }
}

TEST_CASE("a bias of other extents is refused with those that are allowed") {
    const float array[1] = {};
    CHECK(unfit(bias<float>(array, {1, 1, 19, 23})).empty());
    CHECK(unfit(bias<float>(array, {2, 1, 19, 23})).empty());
    CHECK(unfit(bias<float>(array, {2, 4, 19, 23})).empty());
    for (const bias<float>::shape wrong :
         {bias<float>::shape{3, 1, 19, 23}, bias<float>::shape{1, 2, 19, 23}, bias<float>::shape{1, 1, 1, 23},
          bias<float>::shape{1, 1, 19, 1}, bias<float>::shape{1, 4, 23, 19}}) {
        const std::string text = unfit(any_score(causal{}) & bias<float>(array, wrong));
        CHECK(text.find(detail::concat("bias is [", wrong.batch, ", ", wrong.heads, ", ", wrong.queries, ", ",
                                       wrong.keys, "]")) != std::string::npos);
        CHECK(text.find("allowed is [2 or 1, 4 or 1, 19, 23]") != std::string::npos);
    }
}
