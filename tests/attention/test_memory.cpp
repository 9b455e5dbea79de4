/// All memory of the process is counted here, not only what goes through options::memory: no run allocates anything near
/// N x N, nor n x N, and what goes past the counted resource is small.
#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/seqpar.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory_resource>
#include <new>

namespace {

std::atomic<std::size_t> held{0}, peak{0};

/// Allocations carry their size in front.
constexpr std::size_t header = 64;

void* take(std::size_t bytes, std::size_t alignment = header) {
    if (alignment > header) throw std::bad_alloc(); // nothing here asks for more
    const std::size_t room = (bytes + 2 * header) / header * header;
    void* base = std::aligned_alloc(header, room);
    if (base == nullptr) throw std::bad_alloc();
    *static_cast<std::size_t*>(base) = bytes;
    const std::size_t now = held += bytes;
    for (std::size_t before = peak; before < now && !peak.compare_exchange_weak(before, now);) {}
    return static_cast<char*>(base) + header;
}

void give(void* data) noexcept {
    if (data == nullptr) return;
    void* base = static_cast<char*>(data) - header;
    held -= *static_cast<std::size_t*>(base);
    std::free(base);
}

} // namespace

void* operator new(std::size_t bytes) { return take(bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return take(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    try {
        return take(bytes);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void operator delete(void* data) noexcept { give(data); }
void operator delete(void* data, const std::nothrow_t&) noexcept { give(data); }
void operator delete(void* data, std::size_t) noexcept { give(data); }
void operator delete(void* data, std::align_val_t) noexcept { give(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { give(data); }

namespace {

using namespace seqpar;

constexpr index_t rows = 4096, heads = 2, dim = 16;
constexpr int ranks = 4;

/// Peak of the whole process above what is held before, with all ranks at once, of forward and of backward; and what the formulas
/// say for all of them.
template <class Strategy, class Kernel>
void check(const Strategy& strategy, const Kernel& kernel, int size, bool reuse) {
    const auto x = testing::normal<float>({1, rows / size, heads, dim}, 1);
    std::size_t predicted = 0, predicted_backward = 0;
    const std::size_t before = held;
    peak = before;
    std::size_t forward_peak = 0;
    threads::run(size, [&](thread_communicator world) {
        attention attend{world,    strategy, kernel,
                         zigzag{}, causal{}, options{.memory = reuse ? nullptr : std::pmr::new_delete_resource()}};
        const attention_shape shape{1, rows, rows, heads, heads, dim, dim};
        const auto fwd = attend.forward(x, x, x);
        collective::barrier(world);
        if (world.rank() == 0) {
            forward_peak = peak - before;
            peak = held.load();
            for (int r = 0; r < size; ++r) {
                predicted += attend.predict(shape, r).memory;
                predicted_backward += attend.predict_backward(shape, r).memory;
            }
        }
        collective::barrier(world);
        static_cast<void>(attend.backward(x, fwd));
    });
    const std::size_t counted = peak - before,
                      results = static_cast<std::size_t>(rows * heads * (dim + 1)) * sizeof(float),
                      gradients = static_cast<std::size_t>(3 * rows * heads * dim) * sizeof(float);
    INFO("counted " << forward_peak << ", predicted " << predicted << " and " << results << " of results");
    INFO("backward: counted " << counted << ", predicted " << predicted_backward << " and " << gradients << " more");
    CHECK(forward_peak > results);
    CHECK(forward_peak < predicted + results + 256 * 1024);
    CHECK(counted > results + gradients);
    // A workspace still has what the larger pass was lent, and leaves gaps between its blocks.
    const std::size_t scratch = reuse ? std::max(predicted, predicted_backward) * 5 / 4 : predicted_backward;
    CHECK(counted < scratch + results + gradients + 256 * 1024);
    // of all ranks together, in either pass: a quarter of one head's scores
    CHECK(std::max(forward_peak, counted) < rows * rows * sizeof(float) / 4);
}

} // namespace

TEST_CASE("nothing of the size of the scores is ever held") {
    const bool reuse = GENERATE(false, true);
    check(serial{}, flash{}, 1, reuse);
    check(ulysses<>{}, flash{}, ranks, reuse);
    check(ulysses<ring>{2, {}}, flash{}, ranks, reuse);
    check(all_gather{}, flash{}, ranks, reuse);
    check(all_gather{1}, flash{}, ranks, reuse);
    check(ring{}, flash{}, ranks, reuse);
    if (!reuse) check(ring{}, reference{}, ranks, reuse); // has no scratch, and takes its time
    check(ring{ring_route::bidirectional(), ring_passing::keys}, flash{}, ranks, reuse);
    check(ring{ring_route::one_way(), ring_passing::queries}, flash{}, ranks, reuse);
    check(tree{}, flash{}, ranks, reuse);
    check(grid{2, 2}, flash{}, ranks, reuse);
}
