/// Every ring on threads: within the derived bound of the definition; messages, bytes, rounds and peak memory equal to the
/// formulas as integers, on every rank.
#include <support/catch.hpp>

#include "ring_variants.hpp"
#include "thread_product.hpp"

#include <seqpar/kernel/reference.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

constexpr int rank_counts[] = {1, 2, 3, 4, 5, 7, 8};

/// Counts the bytes that leave a node of so many neighbouring ranks.
class across_nodes {
public:
    across_nodes(thread_communicator inner, int width, std::size_t& bytes)
        : inner_(std::move(inner)), width_(width), bytes_(&bytes) {}
    [[nodiscard]] int rank() const { return inner_.rank(); }
    [[nodiscard]] int size() const { return inner_.size(); }
    auto exchange(outgoing out, int to, incoming in, int from) {
        if (to / width_ != rank() / width_) *bytes_ += out.bytes;
        return inner_.exchange(out, to, in, from);
    }
    [[nodiscard]] across_nodes split(int color, int key) { return {inner_.split(color, key), width_, *bytes_}; }

private:
    thread_communicator inner_;
    int width_;
    std::size_t* bytes_;
};
static_assert(communicator<across_nodes>);

/// Counts its calls.
struct counting_kernel : reference {
    int* calls = nullptr;
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        ++*calls;
        reference::forward(how, q, keys, s, into);
    }
    template <real_element T, score S>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        ++*calls;
        reference::backward(how, q, rows, keys, s, dq, dkv);
    }
};

void forward_of_all(thread_product product) {
    for (const int p : rank_counts)
        for (const ring& how : rings(p)) product.check(p, how, small_shapes(), false);
    for (const ring& how : rings(4)) {
        product.check(4, how, tiled_shapes(), false);
        product.check<double>(4, how, small_shapes(), false, reference{});
        product.check<bfloat16>(4, how, small_shapes(), false);
        product.check(8, ulysses<ring>{2, how}, small_shapes(), false);
    }
}
} // namespace

TEST_CASE("rings, a part of the product") { forward_of_all({131}); }
TEST_CASE("rings, the full product", "[slow]") { forward_of_all({1}); }

TEST_CASE("of a double ring, (K - 1) 2nk leave the node; of the gradients, as much and their way home") {
    constexpr std::size_t n = 5, k = 2 * 4, block = 2 * n * k * sizeof(float);
    for (const int width : {1, 2, 3, 6}) {
        const std::size_t K = 6 / static_cast<std::size_t>(width);
        threads::run(6, [&](thread_communicator world) {
            std::size_t bytes = 0;
            const auto seed = static_cast<std::uint64_t>(world.rank());
            const auto q = normal<float>({1, n, 4, 4}, seed), kv = normal<float>({1, n, 2, 4}, seed + 9);
            attention attend{across_nodes(world, width, bytes), ring{ring_route::double_ring(width)}, striped{},
                             options{.check = check_level::none}};
            const lengths whole{6 * n, 6 * n};
            bytes = 0;
            const auto fwd = attend.forward(q, kv, kv, whole);
            const std::size_t forward = std::exchange(bytes, 0);
            const auto g = attend.backward(q, fwd);
            static std::mutex mutex;
            const std::lock_guard lock(mutex);
            CHECK(forward == (K - 1) * block);
            // in inner rings of one rank the first hop leaves the node, and carries no sum
            CHECK(bytes == (K - 1) * block + (K == 1 ? 0 : width == 1 ? K - 1 : K) * block);
        });
    }
}

TEST_CASE("ranks that do not see a block do not call the kernel for it") {
    for (const ring& how : rings(6)) {
        std::vector<int> forward(6), backward(6);
        threads::run(6, [&](thread_communicator world) {
            const auto q = normal<float>({1, 4, 2, 4}, static_cast<std::uint64_t>(world.rank()));
            int calls = 0;
            counting_kernel kernel;
            kernel.calls = &calls;
            attention attend{world, how, causal{}, kernel};
            const auto fwd = attend.forward(q, q, q);
            const auto me = static_cast<std::size_t>(world.rank());
            forward[me] = std::exchange(calls, 0);
            static_cast<void>(attend.backward(q, fwd));
            backward[me] = calls;
        });
        // who computes is who has come: the rows' owner, or the keys'. Equal counts take keys.
        const std::vector<int> rows{1, 2, 3, 4, 5, 6}, keys{6, 5, 4, 3, 2, 1};
        CHECK(forward == (how.passing == ring_passing::queries ? keys : rows));
        CHECK((backward == rows || how.passing != ring_passing::keys));
        CHECK((backward == keys || how.passing != ring_passing::queries));
    }
}

TEST_CASE("two rings on one communicator do not mix, and a ring gives the same bits in every run") {
    const auto bits = [](const ring& one, const ring& other) {
        std::vector<std::vector<float>> all(4);
        threads::run(4, [&](thread_communicator world) {
            const auto seed = static_cast<std::uint64_t>(world.rank());
            const auto q = normal<float>({1, 9, 4, 8}, seed), k = normal<float>({1, 9, 2, 8}, seed + 9);
            attention a{world, one, striped{}, causal{}}, b{world, other, striped{}, causal{}};
            // the ranks start the passes of both in one order, and one may be ahead of another by a pass
            const auto fa = a.forward(q, k, k), fb = b.forward(q, k, k);
            const auto gb = b.backward(q, fb), ga = a.backward(q, fa);
            auto& mine = all[static_cast<std::size_t>(world.rank())];
            for (const tensor<float>* t : {&fa.out, &ga.dq, &ga.dk, &ga.dv})
                mine.insert(mine.end(), t->data(), t->data() + t->shape().count());
        });
        return all;
    };
    for (const ring& how : rings(4)) {
        const auto alone = bits(how, ring{});
        for (int again = 0; again < 5; ++again)
            for (const ring& other : rings(4)) REQUIRE(bits(how, other) == alone);
    }
}
