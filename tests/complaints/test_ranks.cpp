/// What users of other libraries complained of, and why it cannot happen here: ranks, messages and memory. A case for each
/// complaint; test_results.cpp has the others.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>

#include <seqpar/comm/metered.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

/// Thread ranks whose exchanges come late, each by another while.
class late_communicator {
public:
    late_communicator(thread_communicator inner, unsigned seed)
        : inner_(std::move(inner)), random_(seed + static_cast<unsigned>(inner_.rank())) {}

    [[nodiscard]] int rank() const noexcept { return inner_.rank(); }
    [[nodiscard]] int size() const noexcept { return inner_.size(); }
    auto exchange(outgoing out, int to, incoming in, int from) {
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % 150));
        return inner_.exchange(out, to, in, from);
    }
    [[nodiscard]] late_communicator split(int color, int key) {
        return late_communicator(inner_.split(color, key), static_cast<unsigned>(random_()));
    }

private:
    thread_communicator inner_;
    std::mt19937 random_;
};
static_assert(communicator<late_communicator>);

template <class T>
[[nodiscard]] bool same(const tensor<T>& a, const tensor<T>& b) {
    return a.shape() == b.shape() &&
           std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.shape().count()) * sizeof(T)) == 0;
}

const std::vector<any_layout> layouts{contiguous{}, zigzag{}, striped{}};

} // namespace

TEST_CASE("8: an order of merges that depends on timing") {
    const index_t n = 37;
    const auto q = normal<float>({1, n, 4, 16}, 1), k = normal<float>({1, n, 2, 16}, 2),
               dout = normal<float>({1, n, 4, 16}, 3);
    for (const int ranks : {3, 4}) {
        const std::size_t count = all_strategies<late_communicator>(ranks).size();
        for (std::size_t which = 0; which < count; ++which) {
            std::vector<tensor<float>> first(static_cast<std::size_t>(ranks));
            std::atomic<int> differ{0};
            for (const unsigned seed : {1U, 2U, 3U})
                threads::run(ranks, [&](thread_communicator world) {
                    const positions at = zigzag{}.positions(world.rank(), ranks, n);
                    const auto my_q = whole_run<float>::part(q, at), my_k = whole_run<float>::part(k, at);
                    attention attend{late_communicator(world, seed), all_strategies<late_communicator>(ranks)[which],
                                     any_kernel(flash{}), any_score(causal{}), zigzag{}};
                    const auto r = attend.forward(my_q, my_k, my_k);
                    auto [dq, dk, dv] = attend.backward(whole_run<float>::part(dout, at), r);
                    for (index_t i = 0; i < dq.shape().count(); ++i) dq.data()[i] += r.out.data()[i];
                    for (index_t i = 0; i < dk.shape().count(); ++i) dq.data()[i] += dk.data()[i] - 2 * dv.data()[i];
                    auto& mine = first[static_cast<std::size_t>(world.rank())];
                    if (seed == 1)
                        mine = std::move(dq);
                    else
                        differ += same(mine, dq) ? 0 : 1;
                });
            INFO(all_strategies<late_communicator>(ranks)[which].name());
            CHECK(differ == 0);
        }
    }
}

TEST_CASE("8: and a mode that gives the same bits on any number of ranks") {
    const index_t n = 101;
    const auto q = normal<float>({2, n, 8, 16}, 1), k = normal<float>({2, n, 8, 16}, 2),
               v = normal<float>({2, n, 8, 16}, 3);
    const auto alone = whole_run<float>{serial{}, 1, any_score(causal{})}.forward(q, k, v);
    for (const int ranks : {1, 2, 3, 4, 5, 7, 8})
        for (const any_layout& layout : layouts) {
            CHECK(same(alone.out,
                       whole_run<float>{ulysses<>{}, ranks, any_score(causal{}), layout}.forward(q, k, v).out));
            if (layout.name() !=
                "contiguous") // where each rank sees keys of every other, all are folded in global order
                CHECK(same(alone.out,
                           whole_run<float>{all_gather{}, ranks, any_score(causal{}), layout}.forward(q, k, v).out));
        }
}

TEST_CASE("12: K and V repeated before they are sent (torchtitan #1283)") {
    const std::size_t n = 5, P = 4, heads = 16, d = 8, m = P - 1;
    const auto bytes_of = [&](const any_strategy<metered<thread_communicator>>& strategy, index_t kv_heads) {
        std::atomic<std::size_t> sent{0};
        threads::run(static_cast<int>(P), [&](thread_communicator world) {
            const auto counted = std::make_shared<meter>();
            attention attend{metered<thread_communicator>(world, counted), strategy, any_kernel(flash{}),
                             any_score(full{}), options{.lse = false}};
            const index_t rows = static_cast<index_t>(n), dim = static_cast<index_t>(d);
            const auto q = normal<float>({1, rows, static_cast<index_t>(heads), dim}, 1),
                       k = normal<float>({1, rows, kv_heads, dim}, 2);
            counted->reset();
            static_cast<void>(attend.forward(q, k, k));
            if (world.rank() == 0) sent = static_cast<std::size_t>(counted->payload().bytes);
        });
        return sent.load();
    };
    for (const std::size_t kv : {std::size_t{1}, std::size_t{2}, std::size_t{4}, std::size_t{16}}) {
        const std::size_t h = heads * d, k = kv * d, read = std::max(kv, P) * d; // each rank reads at least one kv head
        CHECK(bytes_of(ring{}, static_cast<index_t>(kv)) == 2 * n * k * m * 4);
        CHECK(bytes_of(all_gather{}, static_cast<index_t>(kv)) == 2 * n * k * m * 4);
        CHECK(bytes_of(ulysses<>{}, static_cast<index_t>(kv)) == (2 * h + 2 * read) * n * m / P * 4);
    }
}

TEST_CASE("13: settings of one model that change another (DeepSpeed #8291)") {
    const auto q = normal<float>({1, 9, 4, 8}, 1);
    threads::run(3, [&](thread_communicator world) {
        attention one{world, ring{}, causal{}, options{.scale = 0.2}};
        const auto before = one.forward(q, q, q);
        attention two{world, ulysses<>{}, sliding_window{2, 2}, zigzag{}, options{.scale = 3.0, .lse = false}};
        const auto other = two.forward(q, q, q);
        const auto after = one.forward(q, q, q);
        if (!same(before.out, after.out)) throw error("the second model has changed the first");
        if (same(before.out, other.out)) throw error("both models are the same");
    });
    SUCCEED();
}

TEST_CASE("14: a world rank used as the rank in a group (DeepSpeed #7672)") {
    // Two groups of three, of every other rank and in reverse order, each with data of its own.
    const index_t n = 17;
    for (const auto& strategy : all_strategies<thread_communicator>(3))
        threads::run(6, [&](thread_communicator world) {
            const int color = world.rank() % 2;
            thread_communicator group = world.split(color, -world.rank());
            const auto seed = static_cast<std::uint64_t>(10 * color);
            const auto q = normal<double>({1, n, 3, 4}, seed + 1), k = normal<double>({1, n, 3, 4}, seed + 2);
            const positions at = striped{}.positions(group.rank(), 3, n);
            const auto mine = whole_run<double>::part(q, at), my_k = whole_run<double>::part(k, at);
            attention attend{
                group, strategy, striped{}, any_kernel(flash{}), any_score(causal{}), span_backend<double>{}};
            const auto out = attend.forward(mine, my_k, my_k).out;
            attention alone{causal{}, span_backend<double>{}};
            const auto want = alone.forward(q, k, k).out;
            for (index_t i = 0; i < at.size(); ++i)
                if (std::abs(out(0, i, 2, 3) - want(0, at[i].value, 2, 3)) > 1e-13)
                    throw error(strategy.name() + " in a group is off");
        });
    SUCCEED();
}

TEST_CASE("15: one rank throws and the others hang (vllm-omni PR 6918, pytorch #113376, ring-flash-attention #39)") {
    for (const auto& strategy : all_strategies<thread_communicator>(4)) {
        std::mutex mutex;
        std::vector<std::string> said;
        threads::run(4, [&](thread_communicator world) {
            const auto q = normal<float>({1, 4, 4, 8}, 1), odd = normal<float>({1, 4, 3, 8}, 1);
            attention attend{world, strategy, any_kernel(flash{}), any_score(full{})};
            try {
                static_cast<void>(attend.forward(q, world.rank() == 2 ? odd : q, q));
            } catch (const refusal& why) {
                const std::lock_guard lock(mutex);
                said.push_back(why.what());
            }
            // and the next call is as if nothing had been
            const auto r = attend.forward(q, q, q);
            if (!std::isfinite(r.out(0, 3, 3, 7))) throw error("the call after a refusal is wrong");
        });
        REQUIRE(said.size() == 4);
        for (const std::string& text : said) {
            CHECK(text == said.front());
            CHECK(text.find("rank 2") != std::string::npos);
            CHECK(text.find('3') != std::string::npos);
        }
    }
}

TEST_CASE("16: two rings at once on one communicator") {
    threads::run(4, [](thread_communicator world) {
        const auto seed = static_cast<std::uint64_t>(world.rank());
        const auto a = normal<float>({1, 40, 4, 16}, seed), b = normal<float>({1, 40, 4, 16}, seed + 50);
        attention one{world, ring{}}, two{world, ring{}};
        const auto first = one.forward(a, a, a), second = two.forward(b, b, b);
        for (int again = 0; again < 10; ++again) {
            bool right = true;
            std::thread beside([&] { right = same(second.out, two.forward(b, b, b).out); });
            const bool mine = same(first.out, one.forward(a, a, a).out);
            beside.join();
            if (!right || !mine) throw error("two rings have mixed their messages");
        }
        if (same(first.out, second.out)) throw error("both rings are the same");
    });
    SUCCEED();
}

TEST_CASE("19: memory that is a surprise (ring-flash-attention #23)") {
    const index_t n = 210;
    for (const int ranks : {1, 2, 4, 7})
        for (const auto& strategy : all_strategies<thread_communicator>(ranks))
            for (const saving save : {saving::keep, saving::resend})
                threads::run(ranks, [&](thread_communicator world) {
                    counted_memory memory;
                    const positions at = zigzag{}.positions(world.rank(), ranks, n);
                    const auto q = normal<bfloat16>({1, at.size(), 6, 24}, 1),
                               k = normal<bfloat16>({1, at.size(), 2, 24}, 2),
                               v = normal<bfloat16>({1, at.size(), 2, 10}, 3),
                               dout = normal<bfloat16>({1, at.size(), 6, 10}, 4);
                    attention attend{world,
                                     strategy,
                                     zigzag{},
                                     any_kernel(flash{}),
                                     any_score(causal{}),
                                     span_backend<bfloat16>{},
                                     options{.save = save, .memory = &memory}};
                    const attention_shape shape{1, n, n, 6, 2, 24, 10};
                    memory.reset_peak();
                    const auto r = attend.forward(q, k, v);
                    const std::size_t forward = memory.peak();
                    memory.reset_peak();
                    const auto g = attend.backward(dout, r);
                    const std::size_t backward = memory.peak();
                    if (forward != attend.predict(shape, world.rank()).memory ||
                        backward != attend.predict_backward(shape, world.rank()).memory)
                        throw error(detail::concat(strategy.name(), ": held ", forward, " and ", backward, ", told ",
                                                   attend.predict(shape, world.rank()).memory, " and ",
                                                   attend.predict_backward(shape, world.rank()).memory));
                });
    SUCCEED();
}
