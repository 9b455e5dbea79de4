/// @file
/// What backward promises to the bit: workers, shards of keys and what is not seen change nothing; and its scratch.

#include "kernel/gradient_case.hpp"
#include "support/catch.hpp"

#include <seqpar/core/counted_memory.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <array>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <thread>

using namespace kernel_test;

namespace {

const std::vector<any_score>& scores() {
    static const std::vector<any_score> all{full{}, causal{}, causal{alignment::bottom_right()}, sliding_window{20, 9},
                                            causal{} & sliding_window{150, 0}};
    return all;
}

/// Keys as a list of blocks, one for each rank of a layout; the gradients put back in global order.
template <class T, class L>
gradients<accumulator_t<T>> differentiate_sharded(const flash& kernel, const context& how, const gradient_input<T>& in,
                                                  const any_score& score, const L& layout, int size) {
    using A = accumulator_t<T>;
    gradients<A> result(in.n);
    const origin rows = in.rows();
    std::vector<origin> at;
    std::vector<tensor<T>> k, v;
    std::vector<tensor<A>> dk, dv;
    for (int rank = 0; rank < size; ++rank) {
        at.push_back({layout.positions(rank, size, in.n.keys), {0, in.n.kv_heads}});
        k.push_back(take_rows(in.k.view(), at.back().rows));
        v.push_back(take_rows(in.v.view(), at.back().rows));
        dk.emplace_back(k.back().shape());
        dv.emplace_back(v.back().shape());
    }
    std::vector<key_block<T>> blocks;
    std::vector<key_gradients<A>> of_blocks;
    for (std::size_t i = 0; i < at.size(); ++i) {
        blocks.push_back({k[i].view(), v[i].view(), at[i]});
        of_blocks.push_back({dk[i].view(), dv[i].view()});
    }
    kernel.backward(how, block<const T>{in.q.view(), rows}, in.of_rows(), std::span<const key_block<T>>(blocks), score,
                    result.dq.view(), std::span<const key_gradients<A>>(of_blocks));
    for (std::size_t n = 0; n < at.size(); ++n)
        for (index_t i = 0; i < at[n].rows.size(); ++i) {
            const index_t to = at[n].rows[i].value;
            copy(dk[n].view().rows(i, 1), result.dk.view().rows(to, 1));
            copy(dv[n].view().rows(i, 1), result.dv.view().rows(to, 1));
        }
    return result;
}

/// Says that it has several workers, and is one thread that works from the last item to the first.
struct backwards_executor {
    [[nodiscard]] int workers() const noexcept { return 3; }
    void run(index_t count, task work) const {
        for (index_t item = count; item-- > 0;) work(item, static_cast<int>(item % 3));
    }
};

/// Lets other threads take all items but the first when the progress hook is called in the first one, and gives
/// them 50 ms before the first one goes on. For runs of `count` items; others run on the caller.
class overtaking_executor {
public:
    explicit overtaking_executor(index_t count) : count_(count) {}

    [[nodiscard]] int workers() const noexcept { return 2; }
    void run(index_t count, task work) const {
        if (count != count_) return inline_executor{}.run(count, work);
        std::jthread others;
        open_ = [&] {
            if (others.joinable()) return;
            others = std::jthread([&] {
                for (index_t item = 1; item < count; ++item) work(item, 1);
            });
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        };
        work(0, 0);
        open_();
        others.join();
        open_ = nullptr;
    }
    void open() const {
        if (open_) open_();
    }

private:
    index_t count_;
    mutable std::function<void()> open_;
};

} // namespace

TEMPLATE_TEST_CASE("the number of workers does not change a bit of the gradients", "", float, double, bfloat16) {
    for (const sizes& n : {sizes{2, 55, 257, 3, 1, 33, 17}, sizes{1, 50, 700, 1, 1, 16, 8}, sizes{3, 1, 5, 4, 4, 3, 2},
                           sizes{1, 300, 97, 2, 2, 8, 9}})
        for (const any_score& score : scores()) {
            context how = context_of(n);
            const gradient_input<TestType> in(n, how, score, 23);
            const auto alone = differentiate(flash{}, how, in, score);
            for (const int workers : {2, 3, 5}) {
                const thread_pool pool(workers);
                how.executor = pool;
                INFO(n.text() << ' ' << score.name() << " workers " << workers);
                CHECK(same_bits(alone, differentiate(flash{}, how, in, score)));
            }
            const backwards_executor other;
            how.executor = other;
            CHECK(same_bits(alone, differentiate(flash{}, how, in, score)));
        }
}

TEST_CASE("a block of keys that a tile of rows does not see keeps the blocks beside it in order") {
    // Keys in three runs that lie between each other: rows 300 to 457 see the first and the third one.
    const sizes n{1, 158, 196, 1, 1, 128, 128}; // 4 tiles of rows, 3 blocks of keys
    context how = context_of(n);
    how.n = {500, 500};
    const any_score score = sliding_window{30, 30};
    const gradient_input<float> in(n, how, full{}, 22);
    const origin rows{{run{position{300}, 1, 158}}, {0, 1}},
        keys{{run{position{0}, 5, 96}, run{position{2}, 5, 4}, run{position{3}, 5, 96}}, {0, 1}};
    const key_block<float> block_of_keys{in.k.view(), in.v.view(), keys};
    const auto run_with = [&] {
        gradients<float> result(n);
        const key_gradients<float> of_keys{result.dk.view(), result.dv.view()};
        flash{}.backward(how, block<const float>{in.q.view(), rows}, in.of_rows(),
                         std::span<const key_block<float>>(&block_of_keys, 1), score, result.dq.view(),
                         std::span<const key_gradients<float>>(&of_keys, 1));
        return result;
    };
    const auto alone = run_with();
    const overtaking_executor others_first(3);
    how.executor = others_first;
    int calls = 0;
    const auto overtake = [&] { ++calls, others_first.open(); };
    const function_ref<void()> hook(overtake);
    how.progress = &hook;
    CHECK(same_bits(alone, run_with()));
    CHECK(calls >= 2);
}

TEMPLATE_TEST_CASE("a list of key shards gives the gradients of the whole, bit for bit", "", float, double, bfloat16) {
    const sizes n{2, 50, 311, 2, 1, 24, 40};
    const context how = context_of(n);
    for (const any_score& score : scores()) {
        const gradient_input<TestType> in(n, how, score, 21);
        for (const instruction_set set : targets()) {
            const auto whole = differentiate(flash{set}, how, in, score);
            for (const int size : {2, 3, 4, 7}) {
                INFO(to_string(set) << ' ' << score.name() << " ranks " << size);
                CHECK(same_bits(whole, differentiate_sharded(flash{set}, how, in, score, contiguous{}, size)));
                CHECK(same_bits(whole, differentiate_sharded(flash{set}, how, in, score, zigzag{}, size)));
                CHECK(same_bits(whole, differentiate_sharded(flash{set}, how, in, score, striped{}, size)));
            }
        }
    }
}

TEST_CASE("gradients are added to what is there, in the strides that are there") {
    const sizes n{2, 60, 110, 4, 2, 20, 12};
    const context how = context_of(n);
    const gradient_input<float> in(n, how, full{}, 26);
    const auto once = differentiate(flash{}, how, in, full{});
    const input<float> start_q(n.q(), memory_order::dim_first, 1), start_k(n.k(), memory_order::bhsd, 2),
        start_v(n.v(), memory_order::dim_first, 3);
    const input<float> dq(n.q(), memory_order::dim_first, 1), dk(n.k(), memory_order::bhsd, 2),
        dv(n.v(), memory_order::dim_first, 3);
    const origin rows = in.rows(), keys = in.keys();
    const key_block<float> block_of_keys{in.k.view(), in.v.view(), keys};
    const key_gradients<float> of_keys{dk.view(), dv.view()};
    flash{}.backward(how, block<const float>{in.q.view(), rows}, in.of_rows(),
                     std::span<const key_block<float>>(&block_of_keys, 1), full{}, dq.view(),
                     std::span<const key_gradients<float>>(&of_keys, 1));
    const auto check_sum = [](const tensor_view<float>& end, const tensor_view<float>& start,
                              const tensor<float>& sum) {
        double worst = 0;
        const extents& e = end.shape();
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                for (index_t h = 0; h < e.heads; ++h)
                    for (index_t d = 0; d < e.dim; ++d)
                        worst = std::max(worst, std::abs(double{end(b, i, h, d)} - double{start(b, i, h, d)} -
                                                         double{sum(b, i, h, d)}));
        CHECK(worst < 4e-6);
        CHECK(worst > 0);
    };
    check_sum(dq.view(), start_q.view(), once.dq);
    check_sum(dk.view(), start_k.view(), once.dk);
    check_sum(dv.view(), start_v.view(), once.dv);
}

TEMPLATE_TEST_CASE("NaN and infinity reach only the gradients of the rows and keys that see them", "", float, double,
                   bfloat16) {
    const sizes n{1, 150, 150, 2, 1, 20, 36};
    const context how = context_of(n);
    const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
    for (const any_score& score : std::vector<any_score>{causal{}, sliding_window{30, 5}, causal{alignment::at(-3)}}) {
        gradient_input<TestType> in(n, how, score, 24);
        const auto sees = [&](index_t i, index_t j) {
            return !score.visible(how.n, position{i}, run{position{j}, 1, 1}).empty();
        };
        for (const instruction_set set : targets()) {
            const auto clean = differentiate(flash{set}, how, in, score);
            const auto same_row = [](const auto& a, const auto& b, index_t row, index_t h) {
                return same_bits(a.view().rows(row, 1).heads(h, 1), b.view().rows(row, 1).heads(h, 1));
            };
            for (const index_t bad : {0, 5, 47, 48, 96, 100, 149})
                for (const double value : {nan, inf, -inf})
                    for (const char where : {'q', 'k', 'v', 'o'}) {
                        const bool row = where == 'q' || where == 'o';
                        const input<TestType>& x = where == 'q'   ? in.q
                                                   : where == 'k' ? in.k
                                                   : where == 'v' ? in.v
                                                                  : in.dout;
                        TestType& place = x.view()(0, bad, row ? 1 : 0, 7);
                        const TestType kept = place;
                        place = static_cast<TestType>(static_cast<float>(value));
                        const auto got = differentiate(flash{set}, how, in, score);
                        place = kept;
                        bool untouched = true, reached = false;
                        for (index_t i = 0; i < n.rows; ++i)
                            for (index_t h = 0; h < n.heads; ++h) {
                                const bool touched = row ? i == bad && h == 1 : sees(i, bad);
                                if (!touched) untouched = untouched && same_row(clean.dq, got.dq, i, h);
                                if (touched) reached = reached || !std::isfinite(got.dq(0, i, h, 3));
                            }
                        for (index_t j = 0; j < n.keys; ++j) {
                            // Such a row's P or dS is not finite, and it reaches all keys that the row sees.
                            if (row ? !sees(bad, j) : j != bad)
                                untouched =
                                    untouched && same_row(clean.dk, got.dk, j, 0) && same_row(clean.dv, got.dv, j, 0);
                        }
                        INFO(to_string(set) << ' ' << element_traits<TestType>::name << ' ' << score.name() << ' '
                                            << where << ' ' << bad << " is " << value);
                        CHECK(untouched);
                        bool seen = false; // a row before every key, or a key that no row sees, reaches nothing
                        for (index_t i = 0; i < n.rows; ++i) seen = seen || (row ? sees(bad, i) : sees(i, bad));
                        if (std::isnan(value)) CHECK(reached == seen);
                    }
        }
    }
}

TEST_CASE("a row that has seen nothing contributes nothing, whatever it holds") {
    const sizes n{2, 60, 100, 2, 1, 16, 12};
    const context how = context_of(n);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const any_score late = causal{alignment::at(-20)}; // the first 20 rows are before every key
    gradient_input<float> in(n, how, late, 27);
    gradient_judge judge;
    for (const instruction_set set : targets()) {
        const auto clean = differentiate(flash{set}, how, in, late);
        std::string why;
        CHECK(judge.accepts(clean, in, why));
        for (index_t i = 0; i < 20; ++i) {
            CHECK(in.lse(1, i, 1) == -std::numeric_limits<float>::infinity());
            for (index_t d = 0; d < n.dim; ++d) CHECK(clean.dq(1, i, 1, d) == 0);
        }
    }
    // lse = -inf says so even where the score does not.
    gradient_input<float> all(n, how, full{}, 28);
    const auto take_away = [&](float value) {
        for (const index_t i : {0, 13, 47, 48, 59}) {
            all.lse(0, i, 1) = -std::numeric_limits<float>::infinity();
            all.dout(0, i, 1, 2) = value, all.q(0, i, 1, 3) = value, all.delta(0, i, 1) = value;
        }
    };
    take_away(1);
    for (const instruction_set set : targets()) {
        take_away(1);
        const auto ones = differentiate(flash{set}, how, all, full{});
        take_away(nan);
        const auto nans = differentiate(flash{set}, how, all, full{});
        CHECK(same_bits(ones, nans));
        CHECK(same_bits(differentiate(flash{set}, how, all, full{}), ones));
        for (index_t d = 0; d < n.dim; ++d) CHECK(nans.dq(0, 47, 1, d) == 0);
        CHECK(nans.dq(0, 46, 1, 0) != 0);
        const auto defined = differentiate(reference{}, how, all, full{});
        double worst = 0;
        for (index_t i = 0; i < n.k().count(); ++i)
            worst = std::max(worst, std::abs(double{defined.dk.data()[i]} - double{nans.dk.data()[i]}));
        CHECK(worst < 1e-5);
    }
    for (const any_score& nothing :
         std::vector<any_score>{causal{alignment::at(-1000)}, sliding_window{5, 5, alignment::at(5000)}})
        CHECK(same_bits(differentiate(flash{}, how, all, nothing), gradients<float>(n)));
}

TEST_CASE("backward takes no sequence, no keys and no heads") {
    for (const sizes& n : {sizes{1, 0, 5, 2, 1, 8, 8}, sizes{1, 5, 0, 2, 1, 8, 8}, sizes{0, 5, 5, 2, 1, 8, 8}}) {
        const context how = context_of(n);
        const gradient_input<float> in(n, how, full{});
        CHECK(same_bits(differentiate(flash{}, how, in, full{}), gradients<float>(n)));
        CHECK(same_bits(differentiate(reference{}, how, in, full{}), gradients<float>(n)));
    }
    const sizes n{1, 5, 5, 1, 1, 8, 8};
    const context how = context_of(n);
    const gradient_input<float> in(n, how, full{});
    gradients<float> result(n);
    const origin rows = in.rows();
    const auto without_keys = [&](const auto& kernel) {
        kernel.backward(how, block<const float>{in.q.view(), rows}, in.of_rows(), std::span<const key_block<float>>(),
                        full{}, result.dq.view(), std::span<const key_gradients<float>>());
        CHECK(same_bits(result, gradients<float>(n)));
    };
    without_keys(flash{});
    without_keys(reference{});
}

TEMPLATE_TEST_CASE("the scratch of backward is backward_workspace_bytes, to the byte", "", float, double, bfloat16) {
    for (const sizes& n : {sizes{1, 1, 1, 1, 1, 1, 1}, sizes{2, 30, 149, 4, 2, 16, 24},
                           sizes{1, 107, 200, 3, 1, 20, 33}, sizes{1, 0, 9, 1, 1, 4, 4}, sizes{1, 9, 0, 1, 1, 4, 4}})
        for (const int workers : {1, 3, 8}) {
            const thread_pool pool(workers);
            counted_memory memory;
            context how = context_of(n);
            const gradient_input<TestType> in(n, how, full{}, 29);
            how.executor = pool;
            how.memory = &memory;
            const std::vector<positions> keys{positions::whole(n.keys)};
            const auto check_scratch = [&](const auto& kernel) {
                memory.reset_peak();
                (void)differentiate(kernel, how, in, full{});
                INFO(kernel.name() << ' ' << n.text() << " workers " << workers);
                CHECK(memory.peak() == kernel.template backward_workspace_bytes<TestType>(n.q(), n.v(), keys, workers));
                CHECK(memory.held() == 0);
            };
            for (const instruction_set set : targets()) check_scratch(flash{set});
            check_scratch(reference{});
        }
}

TEST_CASE("backward_workspace_bytes is the sum of its parts") {
    const std::vector<positions> keys{{run{position{0}, 1, 100}}, {run{position{200}, 1, 5}}}; // 2 and 1 blocks of 96
    const auto padded = [](index_t count, index_t unit) { return (count + unit - 1) / unit * unit; };
    for (const instruction_set set : targets())
        for (const int workers : {1, 2, 3}) {
            const index_t lanes = set == instruction_set::baseline ? 4 : set == instruction_set::avx2 ? 8 : 16;
            const index_t kc = padded(33, lanes), vc = padded(50, lanes), rows = 96; // 70 in tiles of 48
            const index_t head = 2 * padded(rows * kc * 4, 64) + padded(rows * vc * 4, 64) + 2 * padded(rows * 4, 64) +
                                 padded(rows * 8, 64) + 2 * 64 + padded(3 * 8, 64);
            const index_t worker = padded(96 * 33 * 4, 64) + padded(96 * 50 * 4, 64) + 2 * padded(96 * kc * 4, 64) +
                                   padded(96 * vc * 4, 64) + 2 * 48 * 96 * 4;
            const index_t at_once = std::array<index_t, 4>{0, 1, 3, 4}[static_cast<std::size_t>(workers)];
            CHECK(flash{set}.backward_workspace_bytes<float>({2, 70, 8, 33}, {2, 0, 2, 50}, keys, workers) ==
                  static_cast<std::size_t>(at_once * head + workers * worker));
        }
}

TEST_CASE("backward calls the progress hook by the calling thread, and ends where it throws") {
    const sizes n{1, 300, 1000, 1, 1, 64, 64};
    context how = context_of(n);
    const gradient_input<float> in(n, how, full{}, 30);
    int calls = 0, throw_at = -1;
    bool elsewhere = false;
    const std::thread::id caller = std::this_thread::get_id();
    const auto count = [&] {
        elsewhere = elsewhere || std::this_thread::get_id() != caller;
        if (++calls == throw_at) throw std::runtime_error("enough");
    };
    const function_ref<void()> hook(count);
    how.progress = &hook;
    (void)differentiate(flash{}, how, in, full{});
    CHECK(calls >= 11 + 7); // once a block of keys at least, and a tile of rows
    const thread_pool pool(3);
    how.executor = pool;
    (void)differentiate(flash{}, how, in, full{});
    CHECK(!elsewhere);
    how.executor = executor_ref();
    calls = 0, throw_at = 12; // among the keys
    CHECK_THROWS_AS(differentiate(flash{}, how, in, full{}), std::runtime_error);
    how.executor = pool;
    for (const int at : {1, 2, 3}) {
        calls = 0, throw_at = at;
        try {
            (void)differentiate(flash{}, how, in, full{});
            CHECK(calls < at); // the caller may have been too slow to get work
        } catch (const std::runtime_error&) {
            CHECK(calls == at);
        }
    }
}
