/// @file
/// What flash promises to the bit: a row is the same whatever surrounds it, and what it may not see does not reach it.

#include "kernel/attention_case.hpp"
#include "support/catch.hpp"

#include <seqpar/kernel/flash/cache_size.hpp>
#include <seqpar/kernel/flash/exp2.hpp>
#include <seqpar/kernel/flash/scratch.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <array>
#include <bit>
#include <cstdint>
#include <memory_resource>
#include <thread>

using namespace kernel_test;

namespace {

const std::vector<any_score>& scores() {
    static const std::vector<any_score> all{full{}, causal{}, causal{alignment::bottom_right()}, sliding_window{20, 9},
                                            causal{} & sliding_window{50, 0}};
    return all;
}

/// Whether row `row` of a is row `other` of b, bit for bit.
template <class A>
bool same_row(const partial<A>& a, index_t row, const partial<A>& b, index_t other) {
    return same_bits(a.acc().rows(row, 1), b.acc().rows(other, 1)) &&
           same_bits(a.max().rows(row, 1), b.max().rows(other, 1)) &&
           same_bits(a.sum().rows(row, 1), b.sum().rows(other, 1));
}

template <class A>
bool is_identity(const partial<A>& p, index_t b, index_t i, index_t h) {
    for (index_t d = 0; d < p.shape().dim; ++d)
        if (p.acc()(b, i, h, d) != 0) return false;
    return p.sum()(b, i, h) == 0 && p.max()(b, i, h) == -std::numeric_limits<A>::infinity();
}

/// The rows `at` of q alone, against all keys.
template <class T>
partial<accumulator_t<T>> attend_rows(const flash& kernel, const context& how, const attention_input<T>& in,
                                      const any_score& score, const positions& at) {
    const tensor<T> q = take_rows(in.q.view(), at);
    const origin rows{at, {0, in.n.heads}}, keys = in.keys();
    partial<accumulator_t<T>> result({in.n.batch, at.size(), in.n.heads, in.n.dim_v});
    const key_block<T> block_of_keys{in.k.view(), in.v.view(), keys};
    kernel.forward(how, block<const T>{q.view(), rows}, std::span<const key_block<T>>(&block_of_keys, 1), score,
                   result);
    return result;
}

/// Counts what is taken, and the most that was held at once. Not thread safe, as no memory resource is.
class counting_resource : public std::pmr::memory_resource {
public:
    std::size_t held = 0, peak = 0;

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        held += bytes;
        peak = std::max(peak, held);
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        held -= bytes;
        std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

index_t lanes_of(instruction_set set) {
    return set == instruction_set::baseline ? 4 : set == instruction_set::avx2 ? 8 : 16;
}

template <class S>
void exp2_of(const typename S::value_type* x, typename S::value_type* y) {
    typename S::vector v = flash_detail::load<S>(x);
    flash_detail::exp2_in_place<S>(v);
    flash_detail::store<S>(y) = v;
}

template <class A>
A exp2_of(A x) {
    using S = flash_detail::simd<A, 16, 4, 2>;
    alignas(64) A in[S::lanes], out[S::lanes];
    std::fill_n(in, S::lanes, x);
    exp2_of<S>(in, out);
    for (const A y : out)
        if (std::memcmp(&y, out, sizeof(A)) != 0) throw error("lanes differ");
    return out[0];
}

} // namespace

TEMPLATE_TEST_CASE("a list of key shards gives the bits of the whole", "", float, double, bfloat16) {
    const sizes n{2, 50, 311, 2, 1, 24, 40};
    const attention_input<TestType> in(n, 21);
    const context how = in.how();
    for (const instruction_set set : targets())
        for (const any_score& score : scores()) {
            const auto whole = attend(flash{set}, how, in, score);
            for (const int size : {2, 3, 4, 7}) {
                INFO(to_string(set) << ' ' << score.name() << " ranks " << size);
                CHECK(same_bits(whole, attend_sharded(flash{set}, how, in, score, contiguous{}, size)));
                CHECK(same_bits(whole, attend_sharded(flash{set}, how, in, score, zigzag{}, size)));
                CHECK(same_bits(whole, attend_sharded(flash{set}, how, in, score, striped{}, size)));
            }
        }
}

TEMPLATE_TEST_CASE("a row's bits do not depend on the rows beside it", "", float, double) {
    const sizes n{1, 151, 333, 2, 2, 24, 40};
    const attention_input<TestType> in(n, 22, memory_order::bshd, 3);
    const context how = in.how();
    for (const instruction_set set : targets())
        for (const any_score& score : scores()) {
            INFO(to_string(set) << ' ' << score.name());
            const auto whole = attend(flash{set}, how, in, score);
            for (const index_t row : {0, 1, 23, 24, 77, 150})
                CHECK(same_row(whole, row, attend_rows(flash{set}, how, in, score, {run{position{row}, 1, 1}}), 0));
            bool same = true;
            for (const int size : {2, 3, 7})
                for (int rank = 0; rank < size; ++rank)
                    for (const positions& at :
                         {contiguous{}.positions(rank, size, n.rows), zigzag{}.positions(rank, size, n.rows),
                          striped{}.positions(rank, size, n.rows)}) {
                        const auto part = attend_rows(flash{set}, how, in, score, at);
                        for (index_t i = 0; i < at.size(); ++i) same = same && same_row(whole, at[i].value, part, i);
                    }
            CHECK(same);
        }
}

TEST_CASE("the number of workers does not change a bit") {
    const sizes n{2, 130, 257, 6, 2, 33, 65};
    const attention_input<float> in(n, 23);
    context how = in.how();
    for (const any_score& score : scores()) {
        how.executor = executor_ref();
        const auto alone = attend(flash{}, how, in, score);
        for (const int workers : {2, 5}) {
            const thread_pool pool(workers);
            how.executor = pool;
            CHECK(same_bits(alone, attend(flash{}, how, in, score)));
        }
    }
}

TEMPLATE_TEST_CASE("NaN and infinity reach only the rows that see them", "", float, double, bfloat16) {
    const sizes n{1, 150, 150, 2, 1, 20, 36};
    const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
    // NaN with a payload in its low bits, which arithmetic on exponents would turn into a number.
    const double odd_nan = static_cast<double>(std::bit_cast<float>(std::uint32_t{0x7fc07fffU}));
    for (const instruction_set set : targets())
        for (const any_score& score :
             std::vector<any_score>{causal{}, sliding_window{30, 5}, causal{alignment::at(-3)}})
            for (const index_t bad : {0, 5, 47, 48, 100, 149})
                for (const double value : {nan, odd_nan, inf, -inf}) {
                    attention_input<TestType> in(n, 24);
                    const context how = in.how();
                    const auto clean = attend(flash{set}, how, in, score);
                    INFO(to_string(set) << ' ' << score.name() << " key " << bad << " value " << value);

                    const TestType kept = in.v(0, bad, 0, 7);
                    in.v(0, bad, 0, 7) = static_cast<TestType>(static_cast<float>(value));
                    const auto bad_v = attend(flash{set}, how, in, score);
                    in.v(0, bad, 0, 7) = kept;
                    if (std::isnan(value)) in.k(0, bad, 0, 3) = static_cast<TestType>(static_cast<float>(value));
                    const auto bad_k = attend(flash{set}, how, in, score);

                    bool right = true;
                    for (index_t i = 0; i < n.rows; ++i) {
                        const bool sees = !score.visible(how.n, position{i}, run{position{bad}, 1, 1}).empty();
                        if (!sees) {
                            right = right && same_row(clean, i, bad_v, i) && same_row(clean, i, bad_k, i);
                            continue;
                        }
                        for (index_t h = 0; h < n.heads; ++h)
                            for (index_t d = 0; d < n.dim_v; ++d) {
                                right = right && std::isfinite(bad_v.acc()(0, i, h, d)) == (d != 7);
                                if (std::isnan(value)) right = right && std::isnan(bad_k.acc()(0, i, h, d));
                            }
                        if (std::isnan(value))
                            right = right && std::isnan(bad_v.acc()(0, i, 0, 7)) && std::isnan(bad_k.sum()(0, i, 0));
                    }
                    CHECK(right);
                }
}

TEST_CASE("an infinite score makes its row NaN, as softmax does, and minus infinity weighs nothing") {
    const sizes n{1, 30, 60, 1, 1, 4, 4};
    for (const instruction_set set : targets()) {
        attention_input<float> in(n, 25);
        in.q(0, 3, 0, 0) = 1, in.q(0, 4, 0, 0) = -1;
        in.k(0, 50, 0, 0) = std::numeric_limits<float>::infinity();
        const auto result = attend(flash{set}, in.how(), in, full{});
        tensor<float> out(n.out()), lse({1, n.rows, 1, 1});
        result.finish(out.view(), lse.view());
        CHECK(std::isnan(out(0, 3, 0, 0)));
        CHECK(std::isnan(lse(0, 3, 0)));
        CHECK(std::isfinite(out(0, 4, 0, 0)));
        CHECK(std::isfinite(lse(0, 4, 0)));
    }
}

TEST_CASE("a NaN that one row sees does not hide the growing maximum of the row beside it") {
    // Row 0 sees keys up to 97, and only key 96 raises its maximum. Row 1 sees NaN in the same lane of the next vector.
    const sizes n{1, 2, 144, 1, 1, 4, 4};
    attention_input<float> in(n, 31);
    for (index_t j = 0; j < n.keys; ++j) in.k(0, j, 0, 0) = j == 96 ? 200 : 0;
    in.q(0, 0, 0, 0) = 2, in.q(0, 1, 0, 0) = 0;
    for (const index_t lanes : {2, 4, 8, 16}) in.k(0, 96 + lanes, 0, 1) = std::numeric_limits<float>::quiet_NaN();
    context how = in.how();
    how.n = {200, 200};
    const origin keys = in.keys(), both_rows{{run{position{97}, 1, 1}, run{position{119}, 1, 1}}, {0, 1}},
                 one_row{{run{position{97}, 1, 1}}, {0, 1}};
    const key_block<float> block_of_keys{in.k.view(), in.v.view(), keys};
    for (const instruction_set set : targets()) {
        partial<float> pair(n.out()), alone({1, 1, 1, 4});
        flash{set}.forward(how, block<const float>{in.q.view(), both_rows},
                           std::span<const key_block<float>>(&block_of_keys, 1), causal{}, pair);
        flash{set}.forward(how, block<const float>{in.q.view().rows(0, 1), one_row},
                           std::span<const key_block<float>>(&block_of_keys, 1), causal{}, alone);
        INFO(to_string(set));
        CHECK(same_row(pair, 0, alone, 0));
        CHECK(std::isfinite(pair.sum()(0, 0, 0)));
        CHECK(std::isnan(pair.sum()(0, 1, 0)));
    }
}

TEST_CASE("the lowest scores that a float can hold are scores all the same") {
    const sizes n{1, 1, 3, 1, 1, 1, 2};
    attention_input<float> in(n, 32);
    in.q(0, 0, 0, 0) = 1e19F;
    for (index_t j = 0; j < n.keys; ++j) in.k(0, j, 0, 0) = j == 1 ? -2e19F : -2.2e19F;
    for (const instruction_set set : targets()) {
        const auto result = attend(flash{set}, in.how(), in, full{});
        tensor<float> out(n.out());
        result.finish(out.view(), tensor_view<float>{});
        CHECK(out(0, 0, 0, 0) == in.v(0, 1, 0, 0));
        CHECK(out(0, 0, 0, 1) == in.v(0, 1, 0, 1));
    }
}

TEST_CASE("a row that sees nothing keeps the identity") {
    const sizes n{2, 60, 100, 2, 1, 16, 16};
    attention_input<float> in(n, 26);
    in.v(0, 3, 0, 1) = std::numeric_limits<float>::quiet_NaN();
    for (const instruction_set set : targets()) {
        // Query i stands at i - 20: the first 20 rows are before every key.
        const any_score late = causal{alignment::at(-20)};
        const auto result = attend(flash{set}, in.how(), in, late);
        for (index_t b = 0; b < n.batch; ++b)
            for (index_t i = 0; i < n.rows; ++i)
                for (index_t h = 0; h < n.heads; ++h) CHECK(is_identity(result, b, i, h) == (i < 20));
        for (const any_score& nothing :
             std::vector<any_score>{causal{alignment::at(-1000)}, sliding_window{5, 5, alignment::at(5000)},
                                    causal{alignment::at(10)} & sliding_window{0, 3, alignment::at(40)}})
            CHECK(same_bits(attend(flash{set}, in.how(), in, nothing), partial<float>(n.out())));
    }
}

TEMPLATE_TEST_CASE("scores of ten thousand, and one key that outweighs all", "", float, double) {
    for (const instruction_set set : targets()) {
        const sizes n{1, 40, 200, 1, 1, 64, 16};
        attention_input<TestType> in(n, 27, memory_order::bshd, 100);
        context how = in.how();
        how.scale = 0.25;
        definition truth(how, in, full{}, 60);
        std::string why;
        const bool right = truth.accepts(attend(flash{set}, how, in, full{}), why);
        INFO(to_string(set) << ' ' << why);
        CHECK(right);
        // Every row's scores are 0 but one of 1e4: its value comes out exactly.
        for (const index_t key : {0, 1, 47, 48, 100, 199}) {
            for (index_t i = 0; i < n.rows; ++i)
                for (index_t d = 0; d < n.dim; ++d) in.q(0, i, 0, d) = d == 0 ? 100 : 0;
            for (index_t j = 0; j < n.keys; ++j) in.k(0, j, 0, 0) = j == key ? 400 : 0;
            const auto result = attend(flash{set}, how, in, full{});
            tensor<TestType> out(n.out());
            result.finish(out.view(), tensor_view<TestType>{});
            bool exact = true;
            for (index_t i = 0; i < n.rows; ++i)
                for (index_t d = 0; d < n.dim_v; ++d) exact = exact && out(0, i, 0, d) == in.v(0, key, 0, d);
            CHECK(exact);
        }
    }
}

TEMPLATE_TEST_CASE("a maximum that keeps growing, or falling, is followed", "", float, double, bfloat16) {
    for (const double slope : {2.0, 0.05, -0.5}) {
        const sizes n{1, 27, 700, 1, 1, 8, 12};
        attention_input<TestType> in(n, 28);
        using A = accumulator_t<TestType>;
        for (index_t i = 0; i < n.rows; ++i) in.q(0, i, 0, 0) = static_cast<TestType>(1 + static_cast<A>(i) / 10);
        for (index_t j = 0; j < n.keys; ++j)
            in.k(0, j, 0, 0) = static_cast<TestType>(static_cast<A>(slope) * static_cast<A>(j));
        context how = in.how();
        how.scale = 1;
        for (const any_score& score : scores()) {
            definition truth(how, in, score, 120);
            for (const instruction_set set : targets()) {
                std::string why;
                const bool right = truth.accepts(attend(flash{set}, how, in, score), why);
                INFO(to_string(set) << ' ' << score.name() << " slope " << slope << ' ' << why);
                CHECK(right);
            }
        }
    }
}

TEST_CASE("exp2 is accurate, monotone in its ends, and exact at zero") {
    double worst_float = 0, worst_double = 0;
    for (int i = -1260000; i <= 100000; i += 7) {
        const double x = static_cast<double>(i) / 1e4;
        const float f = static_cast<float>(x);
        worst_float =
            std::max(worst_float, std::abs(static_cast<double>(exp2_of(f)) / std::exp2(static_cast<double>(f)) - 1));
        worst_double = std::max(worst_double, std::abs(exp2_of(8 * x) / std::exp2(8 * x) - 1));
    }
    CHECK(worst_float < 2.2e-7);
    CHECK(worst_double < 4.5e-16);
    CHECK(exp2_of(0.0F) == 1);
    CHECK(exp2_of(0.0) == 1);
    CHECK(exp2_of(10.0F) == 1024);
    for (const float x :
         {-126.5F, -1e4F, -1e30F, -std::numeric_limits<float>::max(), -std::numeric_limits<float>::infinity()})
        CHECK(exp2_of(x) == 0);
    for (const double x : {-1022.5, -1e10, -std::numeric_limits<double>::infinity()}) CHECK(exp2_of(x) == 0);
    for (std::uint32_t bits = 0x7f800001U; bits < 0x7fffff00U; bits += 12345)
        if (!std::isnan(exp2_of(std::bit_cast<float>(bits)))) FAIL("NaN lost: " << bits);
    CHECK(std::isnan(exp2_of(std::bit_cast<double>(std::uint64_t{0x7ff80000000fffffU}))));
}

TEMPLATE_TEST_CASE("the scratch is workspace_bytes, to the byte", "", float, double, bfloat16) {
    for (const instruction_set set : targets())
        for (const sizes& n : {sizes{1, 1, 1, 1, 1, 1, 1}, sizes{2, 30, 49, 4, 2, 16, 24},
                               sizes{1, 7, 300, 3, 1, 80, 65}, sizes{1, 0, 9, 1, 1, 4, 4}, sizes{1, 9, 0, 1, 1, 4, 4}})
            for (const int workers : {1, 3})
                for (const int size : {1, 3}) {
                    const attention_input<TestType> in(n, 29);
                    counting_resource memory;
                    context how = in.how();
                    const thread_pool pool(workers);
                    how.executor = pool;
                    how.memory = &memory;
                    // The second half of every part is missing, so that the union has several runs.
                    partial<accumulator_t<TestType>> result(n.out());
                    std::vector<positions> shards;
                    for (int rank = 0; rank < size; ++rank) {
                        const run part = contiguous{}.positions(rank, size, n.keys).runs().empty()
                                             ? run{position{0}, 1, 0}
                                             : contiguous{}.positions(rank, size, n.keys).runs().front();
                        shards.push_back({run{part.first, 1, part.count / 2}});
                    }
                    std::vector<origin> at;
                    std::vector<key_block<TestType>> keys;
                    for (const positions& p : shards) at.push_back({p, {0, n.kv_heads}});
                    for (const origin& o : at) {
                        const index_t first = o.rows.empty() ? 0 : o.rows[0].value;
                        keys.push_back(
                            {in.k.view().rows(first, o.rows.size()), in.v.view().rows(first, o.rows.size()), o});
                    }
                    const origin rows = in.rows();
                    const flash kernel{set};
                    kernel.forward(how, block<const TestType>{in.q.view(), rows},
                                   std::span<const key_block<TestType>>(keys), full{}, result);
                    INFO(to_string(set) << ' ' << n.text() << " workers " << workers << " blocks " << size);
                    CHECK(memory.peak == kernel.workspace_bytes<TestType>(n.q(), n.v(), shards, workers));
                    CHECK(memory.held == 0);
                    CHECK((memory.peak > 0) == (n.rows > 0 && n.keys / size >= 2));
                }
}

TEST_CASE("workspace_bytes is the sum of its parts") {
    const auto padded = [](index_t count, index_t unit) { return (count + unit - 1) / unit * unit; };
    for (const instruction_set set : targets())
        for (const int workers : {1, 4}) {
            const index_t lanes = lanes_of(set), width = 3 * lanes, q_columns = padded(33, lanes),
                          columns = padded(50, lanes);
            const auto keys = [&](index_t count) {
                return padded(count * 33 * 4, 64) + padded(count * columns * 4, 64) + padded(count / width, 64);
            };
            const index_t tile = flash_detail::caches().first >= 48 * 1024 ? 48 : 24;
            const auto tiles = [&](index_t count) { // and weights
                return tile * 96 * 4 + padded(count * tile * q_columns * 4, 64) +
                       padded(count * tile * columns * 4, 64) + padded(count * tile * lanes * 4, 64) +
                       padded(count * tile * 4, 64) +
                       padded(count * index_t{sizeof(flash_detail::row_state<float>)}, 64);
            };
            const auto bytes = [&](const extents& q, const std::vector<positions>& rows) {
                return static_cast<index_t>(flash{set}.workspace_bytes<float>(q, {q.batch, 0, 2, 50}, rows, workers));
            };
            // Many rows: all keys once, in two runs, and a tile for each worker.
            CHECK(bytes({2, 70, 8, 33}, {{run{position{0}, 1, 100}}, {run{position{200}, 1, 5}}}) ==
                  keys(padded(100, width) + padded(5, width)) + workers * tiles(1));
            // Few: a block of keys and all tiles, at worst one and a rest for each kv head, for each worker.
            CHECK(bytes({1, 1, 8, 33}, {{run{position{0}, 1, 100}}}) == workers * (keys(96) + tiles(2)));
            // The same with three chunks of keys, whose results wait to be merged.
            CHECK(bytes({1, 1, 8, 33}, {{run{position{0}, 1, 2 * 4128 + 1}}}) ==
                  padded(3 * 8 * columns * 4, 64) + 2 * padded(3 * 8 * 4, 64) + workers * (keys(96) + tiles(2)));
        }
}

TEST_CASE("a row's bits do not depend on who computes which chunk of a long sequence", "[long]") {
    const sizes n{1, 200, 9000, 6, 2, 24, 40};
    const attention_input<float> in(n, 33);
    context how = in.how();
    const std::vector<any_score> all{full{}, causal{alignment::bottom_right()},
                                     sliding_window{5000, 10, alignment::bottom_right()}};
    for (const any_score& score : all) {
        INFO(score.name());
        how.executor = executor_ref();
        const auto whole = attend(flash{}, how, in, score); // many rows: one packing for all
        const thread_pool pool(3);
        for (const bool threads : {false, true}) {
            if (threads) how.executor = pool;
            for (const positions& at : {positions{run{position{7}, 1, 1}}, positions{run{position{150}, 1, 20}},
                                        positions{run{position{0}, 3, 60}}}) {
                const auto part = attend_rows(flash{}, how, in, score, at); // few: each worker packs chunks
                bool same = true;
                for (index_t i = 0; i < at.size(); ++i) same = same && same_row(whole, at[i].value, part, i);
                CHECK(same);
            }
        }
    }
}

TEMPLATE_TEST_CASE("keys that are read in place give the bits of packed ones", "", float, double, bfloat16) {
    // One position is up to 8 rows of a kv head, for which full panels of keys of full vectors are not packed. Maxima move by
    // hundreds; two chunks, the last panel not full.
    for (const index_t heads : {16, 6}) {
        const attention_input<TestType> in({1, 60, 4300, heads, 2, 64, 96}, 37, memory_order::bshd, 12);
        const context how = in.how();
        for (const any_score& score : {any_score(full{}), any_score(causal{alignment::bottom_right()})})
            for (const instruction_set set : targets()) {
                INFO(to_string(set) << ' ' << heads << ' ' << score.name());
                const auto whole = attend(flash{set}, how, in, score); // many rows: all is packed
                for (const index_t row : {0, 59})
                    CHECK(same_row(whole, row, attend_rows(flash{set}, how, in, score, {run{position{row}, 1, 1}}), 0));
            }
    }
}

TEMPLATE_TEST_CASE("one row of each head over a long cache agrees with the definition", "[long]", float, double,
                   bfloat16) {
    for (const index_t heads : {1, 7, 8, 30}) { // of one kv head: less, more than a group of rows, than a tile
        const sizes n{2, 1, 4500, heads, 1, 72, 64};
        const attention_input<TestType> in(n, 34);
        const context how = in.how();
        definition exact(how, in, full{});
        for (const instruction_set set : targets()) {
            std::string why;
            const bool accepted = exact.accepts(attend(flash{set}, how, in, full{}), why);
            INFO(to_string(set) << ' ' << heads << ' ' << why);
            CHECK(accepted);
        }
    }
}

TEST_CASE("the progress hook is called by the calling thread while work is under way") {
    const sizes n{1, 300, 2000, 1, 1, 128, 128};
    const attention_input<float> in(n, 30);
    context how = in.how();
    int calls = 0;
    bool elsewhere = false;
    const std::thread::id caller = std::this_thread::get_id();
    const auto count = [&] { ++calls, elsewhere = elsewhere || std::this_thread::get_id() != caller; };
    const function_ref<void()> hook(count);
    how.progress = &hook;
    (void)attend(flash{}, how, in, full{});
    CHECK(calls >= 26); // 13 row tiles, each several times, and the packing
    const thread_pool pool(3);
    how.executor = pool;
    (void)attend(flash{}, how, in, full{});
    CHECK(!elsewhere);
}
