/// The facade: policies in any order, and every wrong call refused on every rank with the same words before any payload.
#include <support/catch.hpp>
#include <support/naive.hpp>
#include <support/refused_on_ranks.hpp>
#include <support/scheme_case.hpp>

#include <seqpar/seqpar.hpp>

#include <limits>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

using namespace seqpar;
using testing::has;
using testing::local_rows;
using testing::normal;
using testing::refused_on_ranks;

TEST_CASE("policies come in any order, and have defaults") {
    using a = attention<ring, thread_communicator, causal, zigzag, reference, span_backend<double>>;
    using b = attention<zigzag, span_backend<double>, reference, causal, thread_communicator, ring>;
    static_assert(std::is_same_v<a::strategy_type, b::strategy_type> && std::is_same_v<a::layout_type, b::layout_type>);
    static_assert(std::is_same_v<a::score_type, causal> && std::is_same_v<b::kernel_type, reference>);
    static_assert(std::is_same_v<a::value_type, double> && std::is_same_v<a::communicator_type, thread_communicator>);
    static_assert(std::is_same_v<attention<>::strategy_type, serial> && std::is_same_v<attention<>::score_type, full> &&
                  std::is_same_v<attention<>::layout_type, contiguous> &&
                  std::is_same_v<attention<>::kernel_type, flash> &&
                  std::is_same_v<attention<>::communicator_type, self_communicator> &&
                  std::is_same_v<attention<>::value_type, float>);
    CHECK(attention<>{}.name() == "serial, contiguous, full, " + flash{}.name());
    CHECK(attention{causal{alignment::bottom_right()}, reference{}}.name() ==
          "serial, contiguous, causal(bottom-right), reference");
}

TEST_CASE("serial attention is attention") {
    const auto q = normal<float>({2, 5, 4, 6}, 1), k = normal<float>({2, 9, 2, 6}, 2),
               v = normal<float>({2, 9, 2, 3}, 3);
    attention attend{causal{alignment::bottom_right()}};
    const auto [out, lse, saved] = attend.forward(q, k, v);
    static_cast<void>(saved);
    const auto expected = testing::naive_attention<float>(q.view(), k.view(), v.view(), 1 / std::sqrt(6.0),
                                                          [](index_t i, index_t j) { return j <= i + 4; });
    std::size_t n = 0, row = 0;
    for (index_t b = 0; b < 2; ++b)
        for (index_t i = 0; i < 5; ++i)
            for (index_t h = 0; h < 4; ++h) {
                CHECK(lse(b, i, h) == Approx(static_cast<double>(expected.lse[row++])).margin(1e-6));
                for (index_t d = 0; d < 3; ++d)
                    CHECK(out(b, i, h, d) == Approx(static_cast<double>(expected.out[n++])).margin(1e-6));
            }
    CHECK(lse.data()[1] == lse(0, 1, 0)); // [batch, heads, seq] in memory
}

TEST_CASE("scale, lse and memory are options") {
    const auto q = normal<float>({1, 5, 2, 4}, 1);
    counted_memory memory;
    attention attend{options{.scale = 0.0, .lse = false, .memory = &memory}};
    const auto result = attend.forward(q, q, q);
    CHECK(result.lse.shape().count() == 0);
    CHECK(memory.peak() > 0);
    float mean = 0; // with scale 0 all keys weigh the same
    for (index_t j = 0; j < 5; ++j) mean += q(0, j, 1, 2) / 5;
    CHECK(result.out(0, 3, 1, 2) == Approx(mean));
}

TEST_CASE("BHSD in and out") {
    const auto q = normal<float>({2, 7, 3, 4}, 1, format::bhsd), k = normal<float>({2, 7, 3, 4}, 2, format::bhsd);
    tensor<float> qs({2, 7, 3, 4}), ks({2, 7, 3, 4});
    copy(q.view(), qs.view());
    copy(k.view(), ks.view());
    attention as_bhsd{span_backend<float>{format::bhsd}};
    attention as_bshd{};
    const auto a = as_bhsd.forward(tensor_view<const float>(q.data(), q.shape(), format::bhsd), k, k);
    const auto b = as_bshd.forward(qs, ks, ks);
    CHECK(a.out.view().step() == dense_strides({2, 7, 3, 4}, format::bhsd));
    for (index_t s = 0; s < 7; ++s) CHECK(a.out(1, s, 2, 3) == b.out(1, s, 2, 3));
}

namespace {

std::string refusal_of_shapes(const extents& q, const extents& k, const extents& v, const extents& q_of_rank_2) {
    return refused_on_ranks([&](auto& comm, int rank) {
        attention attend{comm, ring{}, zigzag{}};
        static_cast<void>(
            attend.forward(normal<float>(rank == 2 ? q_of_rank_2 : q, 1), normal<float>(k, 2), normal<float>(v, 3)));
    });
}

} // namespace

TEST_CASE("what does not agree within a rank is refused on every rank") {
    const extents e{1, 8, 4, 16};
    const auto k = [](index_t heads, index_t dim) { return extents{1, 8, heads, dim}; };
    CHECK(refusal_of_shapes(e, e, e, e).empty());
    has(refusal_of_shapes(e, k(4, 8), e, e), "head_dim of Q is 16 and of K is 8");
    has(refusal_of_shapes(e, k(3, 16), k(3, 16), e),
        "heads is 4 and kv_heads is 3: heads must be a positive multiple of kv_heads");
    has(refusal_of_shapes(e, k(2, 16), k(4, 16), e), "the number of heads of K is 2 and of V is 4");
    has(refusal_of_shapes(e, {1, 7, 4, 16}, e, e), "seq of K is 7 and of V is 8");
    has(refusal_of_shapes(e, {2, 8, 4, 16}, {2, 8, 4, 16}, e), "batch of Q is 1 and of K is 2");
    has(refusal_of_shapes({1, 8, 4, 0}, k(4, 0), e, {1, 8, 4, 0}), "head_dim is 0 for Q and 16 for V");
}

TEST_CASE("what differs between ranks is refused on every rank, naming the rank") {
    const extents e{1, 8, 4, 16};
    has(refusal_of_shapes(e, e, e, {1, 8, 8, 16}), "rank 2 has heads 8 and rank 0 has 4");
    has(refusal_of_shapes(e, e, e, {1, 9, 4, 16}),
        "rank 0 brings 8 rows of Q; of 33 rows over 4 ranks, the layout zigzag gives it 9");
    has(refused_on_ranks([&](auto& comm, int rank) {
            const extents keys{1, rank == 1 ? 9 : 8, 4, 16};
            attention attend{comm, ring{}, zigzag{}};
            static_cast<void>(attend.forward(normal<float>(e, 1), normal<float>(keys, 2), normal<float>(keys, 3)));
        }),
        "rank 0 brings 8 rows of K and V; of 33 rows over 4 ranks, the layout zigzag gives it 9");
    has(refusal_of_shapes(e, e, e, {1, 8, 4, 15}), "rank 2: head_dim of Q is 15 and of K is 16");
    const auto q = normal<float>(e, 1);
    has(refused_on_ranks([&](auto& comm, int rank) {
            attention<any_strategy<metered<thread_communicator>>, metered<thread_communicator>, any_score, any_kernel>
                attend{comm, any_strategy<metered<thread_communicator>>(ring{}), any_score(full{}),
                       any_kernel(reference{}), options{.scale = rank == 3 ? 0.5 : 0.25}};
            static_cast<void>(attend.forward(q, q, q));
        }),
        "scale");
    has(refused_on_ranks([&](auto& comm, int rank) {
            attention attend{comm, ring{}, any_score(rank == 1 ? any_score(causal{}) : any_score(full{}))};
        }),
        "rank 1 has scheme ring, contiguous, causal(top-left)");
    // Also where a score fits the shape of none, or of some of them only (found by fuzzing).
    for (const std::size_t sinks : {4U, 5U, 8U})
        has(refused_on_ranks([&](auto& comm, int rank) {
                attention attend{comm, ring{}, sink(std::vector<double>(sinks, 0.5))};
                static_cast<void>(attend.forward(normal<float>({1, 8, rank == 2 ? 8 : 4, 16}, 1), q, q));
            }),
            "rank 2 has heads 8 and rank 0 has 4");
}

TEST_CASE("parameters are refused before the ranks are split") {
    const auto with = [](auto... policies) {
        return refused_on_ranks([&](auto& comm, int) { attention attend{comm, policies...}; });
    };
    has(with(ulysses<>{3, {}}), "ulysses of degree 3 does not fit 4 ranks: allowed are 1, 2, 4, or 0 for all");
    has(with(ulysses<>{-1, {}}), "degree -1");
    has(with(ulysses<>{2, {}}), "leaves 2 to serial: serial attention holds the whole sequence on 1 rank");
    has(with(ulysses<ulysses<>>{2, {4, {}}}), "ulysses of degree 4 does not fit 2 ranks");
    has(with(serial{}), "1 rank, and there are 4: choose ulysses, all-gather or ring");
    has(with(all_gather{-2}), "streams -2 blocks");
    has(with(ring{}, sliding_window{-5, 0}), "window of -5");
    const auto q = normal<float>({1, 2, 1, 1}, 1);
    has(refused_on_ranks([&](auto& comm, int) {
            attention attend{comm, ring{}, options{.scale = std::numeric_limits<double>::infinity()}};
            static_cast<void>(attend.forward(q, q, q));
        }),
        "scale is inf: it must be finite");
}

TEST_CASE("levels of checking") {
    const auto q = normal<float>({1, 8, 4, 16}, 1);
    const extents wrong{1, 8, 3, 16};
    has(refused_on_ranks([&](auto& comm, int) {
            attention attend{comm, ring{}, options{.check = check_level::none}};
            static_cast<void>(attend.forward(q, q, q));
        }),
        "give forward the lengths of Q and K");
    has(refused_on_ranks([&](auto& comm, int) {
            attention attend{comm, ring{}, options{.check = check_level::own_rank}};
            static_cast<void>(attend.forward(q, normal<float>(wrong, 1), normal<float>(wrong, 1), lengths{32, 32}));
        }),
        "heads is 4 and kv_heads is 3");
    // no check, no preflight message, the same result
    threads::run(4, [&](thread_communicator world) {
        const auto counted = std::make_shared<meter>();
        attention quick{metered<thread_communicator>(world, counted), ring{}, options{.check = check_level::none}};
        attention careful{world, ring{}};
        const auto mine = normal<float>({1, 8, 4, 16}, static_cast<std::uint64_t>(world.rank()));
        counted->reset();
        const auto a = quick.forward(mine, mine, mine, lengths{32, 32});
        const auto preflight = counted->of("preflight").messages;
        const auto b = careful.forward(mine, mine, mine);
        static std::mutex mutex;
        const std::lock_guard lock(mutex);
        CHECK(preflight == 0);
        for (index_t i = 0; i < a.out.shape().count(); ++i) REQUIRE(a.out.data()[i] == b.out.data()[i]);
        CHECK(a.out.data()[7] != 0);
    });
}

TEST_CASE("two schemes on one communicator do not mix messages") {
    threads::run(3, [](thread_communicator world) {
        const auto q = normal<double>({1, 4, 2, 8}, static_cast<std::uint64_t>(world.rank()));
        attention one{world, ring{}, span_backend<double>{}};
        attention two{world, all_gather{}, span_backend<double>{}};
        const auto a = one.forward(q, q, q);
        const auto b = two.forward(q, q, q);
        const auto c = one.forward(q, q, q);
        static std::mutex mutex;
        const std::lock_guard lock(mutex);
        for (index_t i = 0; i < 64; ++i) {
            CHECK(a.out.data()[i] == c.out.data()[i]);
            CHECK(a.out.data()[i] == Approx(b.out.data()[i]).epsilon(1e-12));
        }
    });
}

namespace {

struct broken : reference {
    int rank = 0;
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        if (rank == 2) throw std::bad_alloc();
        reference::forward(how, q, keys, s, into);
    }
};

} // namespace

TEST_CASE("a rank that fails releases the others and is named") {
    try {
        threads::run(4, [](thread_communicator world) {
            const auto q = normal<float>({1, 4, 2, 8}, 1);
            broken kernel;
            kernel.rank = world.rank();
            attention attend{world, ulysses<ring>{2, {}}, kernel};
            static_cast<void>(attend.forward(q, q, q));
        });
        FAIL("no exception");
    } catch (const rank_error& e) {
        CHECK(e.rank() == 2);
        CHECK_THROWS_AS(std::rethrow_if_nested(e), std::bad_alloc);
    }
}

TEST_CASE("NaN and infinity stay with the rows that may see them") {
    for (const float poison : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
        for (const bool in_v : {false, true}) {
            constexpr index_t rows = 120, bad = 61;
            auto q = normal<float>({1, rows, 2, 16}, 1), k = normal<float>({1, rows, 2, 16}, 2),
                 v = normal<float>({1, rows, 2, 16}, 3);
            attention attend{causal{}};
            const auto clean = attend.forward(q, k, v);
            (in_v ? v : k)(0, bad, 1, 5) = poison;
            threads::run(3, [&](thread_communicator world) {
                const positions at = striped{}.positions(world.rank(), 3, rows);
                attention sharded{world, ring{}, causal{}, striped{}};
                const auto got = sharded.forward(local_rows(q, at), local_rows(k, at), local_rows(v, at));
                static std::mutex mutex;
                const std::lock_guard lock(mutex);
                for (index_t i = 0; i < at.size(); ++i) {
                    const index_t p = at[i].value;
                    CHECK(got.out(0, i, 0, 5) == Approx(clean.out(0, p, 0, 5)).margin(1e-5)); // the other head
                    if (p < bad)
                        CHECK(got.out(0, i, 1, 5) == Approx(clean.out(0, p, 1, 5)).margin(1e-5));
                    else if (in_v || poison != poison)
                        CHECK_FALSE(std::isfinite(got.out(0, i, 1, 5)));
                }
            });
        }
}

TEST_CASE("backward is refused on every rank where it cannot be") {
    const auto q = normal<float>({1, 8, 4, 16}, 1);
    has(refused_on_ranks([&](auto& comm, int rank) {
            attention attend{comm, ring{}};
            const auto fwd = attend.forward(q, q, q);
            comm.counts().reset();
            static_cast<void>(attend.backward(normal<float>({1, rank == 2 ? 7 : 8, 4, 16}, 2), fwd));
        }),
        "rank 2: dout is [batch 1, seq 7, heads 4, head_dim 16] and out is [batch 1, seq 8, heads 4, head_dim 16]");
    has(refused_on_ranks([&](auto& comm, int) {
            attention attend{comm, ring{}, options{.lse = false}};
            const auto fwd = attend.forward(q, q, q);
            comm.counts().reset();
            static_cast<void>(attend.backward(fwd.out, fwd));
        }),
        "options::lse = false");
    has(refused_on_ranks([&](auto& comm, int rank) {
            attention attend{comm, ring{}};
            const auto fwd = attend.forward(q, q, q);
            comm.counts().reset();
            const auto dlse = normal<float>({1, 8, 4, 1}, 3);
            static_cast<void>(attend.backward(fwd.out, fwd, rank == 1 ? dlse.view() : tensor_view<const float>{}));
        }),
        "rank 1 has pass");
}
