/// All memory of the process is counted here, not only what goes through options::memory: no run allocates anything near
/// N x N, nor n x N, and what goes past the counted resource is small.
#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/seqpar.hpp>

#include <atomic>
#include <cstdlib>
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

/// Peak of the whole process above what is held before, with all ranks at once; and what the formulas say for all of them.
template <class Strategy, class Kernel>
void check(const Strategy& strategy, const Kernel& kernel, int size) {
    const auto x = testing::normal<float>({1, rows / size, heads, dim}, 1);
    std::size_t predicted = 0;
    const std::size_t before = held;
    peak = before;
    threads::run(size, [&](thread_communicator world) {
        attention attend{world, strategy, kernel, zigzag{}, causal{}};
        static_cast<void>(attend.forward(x, x, x));
        if (world.rank() == 0)
            for (int r = 0; r < size; ++r)
                predicted += attend.predict({1, rows, rows, heads, heads, dim, dim}, r).memory;
    });
    const std::size_t counted = peak - before,
                      results = static_cast<std::size_t>(rows * heads * (dim + 1)) * sizeof(float);
    INFO("counted " << counted << ", predicted " << predicted << " and " << results << " of results");
    CHECK(counted > results);
    CHECK(counted < predicted + results + 256 * 1024);
    CHECK(counted < rows * rows * sizeof(float) / 8); // of all ranks together: an eighth of one head's scores
}

} // namespace

TEST_CASE("nothing of the size of the scores is ever held") {
    check(serial{}, flash{}, 1);
    check(ulysses<>{}, flash{}, ranks);
    check(ulysses<ring>{2, {}}, flash{}, ranks);
    check(all_gather{}, flash{}, ranks);
    check(all_gather{1}, flash{}, ranks);
    check(ring{}, flash{}, ranks);
    check(ring{}, reference{}, ranks);
}
