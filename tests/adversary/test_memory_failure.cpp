/// Allocations that fail, each in its turn: those of options::memory, and those of operator new.
#include "adversary_case.hpp"

#include <support/catch.hpp>

#include <seqpar/comm/threads.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

thread_local std::int64_t until_failure = 0; // allocations of this thread; 0: none fails
std::atomic<std::int64_t> living = 0;        // allocations of all threads

void* allocated(std::size_t bytes, std::size_t alignment) {
    if (until_failure > 0 && --until_failure == 0) throw std::bad_alloc();
    void* const data = alignment <= alignof(std::max_align_t)
                           ? std::malloc(bytes == 0 ? 1 : bytes)
                           : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment + alignment);
    if (data == nullptr) throw std::bad_alloc();
    ++living;
    return data;
}
void given_back(void* data) noexcept {
    if (data == nullptr) return;
    --living;
    std::free(data);
}

} // namespace

void* operator new(std::size_t bytes) { return allocated(bytes, 1); }
void* operator new[](std::size_t bytes) { return allocated(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t a) { return allocated(bytes, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t bytes, std::align_val_t a) { return allocated(bytes, static_cast<std::size_t>(a)); }
// Who asks this way can do without: std::stable_sort.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    ++living;
    return std::malloc(bytes == 0 ? 1 : bytes);
}
void operator delete(void* data, const std::nothrow_t&) noexcept { given_back(data); }
void operator delete(void* data) noexcept { given_back(data); }
void operator delete[](void* data) noexcept { given_back(data); }
void operator delete(void* data, std::size_t) noexcept { given_back(data); }
void operator delete[](void* data, std::size_t) noexcept { given_back(data); }
void operator delete(void* data, std::align_val_t) noexcept { given_back(data); }
void operator delete[](void* data, std::align_val_t) noexcept { given_back(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { given_back(data); }
void operator delete[](void* data, std::size_t, std::align_val_t) noexcept { given_back(data); }

namespace {

/// Of which the at-th allocation fails.
class frail_memory final : public std::pmr::memory_resource {
public:
    explicit frail_memory(std::int64_t at) : at_(at) {}
    [[nodiscard]] bool failed() const noexcept { return at_ > 0 && done_ >= at_; }
    [[nodiscard]] std::size_t held() const noexcept { return held_.held(); }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (++done_ == at_) throw std::bad_alloc();
        return held_.allocate(bytes, alignment);
    }
    void do_deallocate(void* data, std::size_t bytes, std::size_t alignment) override {
        held_.deallocate(data, bytes, alignment);
    }
    [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

    counted_memory held_;
    std::int64_t at_, done_ = 0;
};

/// What a run throws: the rank that it names, -1 for nothing, and whether it is one of bad_alloc.
struct outcome {
    int said_by = -1;
    bool bad_alloc = false;
    std::string text;
};

template <class F>
outcome of_run(int ranks, const F& f) {
    outcome r;
    try {
        threads::run(ranks, f);
    } catch (const rank_error& e) {
        r.said_by = e.rank();
        r.text = e.what();
        try {
            std::rethrow_if_nested(e);
        } catch (const std::bad_alloc&) {
            r.bad_alloc = true;
        } catch (...) {}
    }
    return r;
}

void memory_sweep(int ranks, std::int64_t step) {
    int failures = 0;
    each_work<thread_communicator>(ranks, [&](const std::string& name, const auto& work) {
        for (int failing_rank = 0; failing_rank < ranks; ++failing_rank)
            for (std::int64_t at = 1;; at += step) {
                std::vector<frail_memory> memory;
                for (int r = 0; r < ranks; ++r) memory.emplace_back(r == failing_rank ? at : 0);
                const outcome r = of_run(ranks, [&](thread_communicator world) {
                    work(world, &memory[static_cast<std::size_t>(world.rank())]);
                });
                INFO(name << " on " << ranks << ", allocation " << at << " of rank " << failing_rank << ": " << r.text);
                for (const frail_memory& each : memory) REQUIRE(each.held() == 0);
                if (!memory[static_cast<std::size_t>(failing_rank)].failed()) {
                    REQUIRE(r.said_by == -1);
                    break;
                }
                ++failures;
                REQUIRE(r.said_by == failing_rank);
                REQUIRE(r.bad_alloc);
                REQUIRE(has_in_order(r.text, {"rank " + std::to_string(failing_rank) + ": ", "(in " + name}));
            }
    });
    CHECK(failures > 20);
}

void new_sweep(int ranks, std::int64_t step) {
    static_cast<void>(whole_attention::get()); // once and for all
    int failures = 0;
    each_work<thread_communicator>(ranks, [&](const std::string& name, const auto& work) {
        for (int failing_rank = 0; failing_rank < ranks; ++failing_rank)
            for (std::int64_t at = 1;; at += step) {
                std::atomic<bool> failed = false;
                std::array<char, 300> text{}; // no string: what is allocated is counted
                const std::int64_t before = living;
                int said_by = -1;
                bool bad_alloc = false;
                {
                    const outcome r = of_run(ranks, [&](thread_communicator world) {
                        const bool fails = world.rank() == failing_rank;
                        struct countdown {
                            std::atomic<bool>* failed; // null: of another rank
                            ~countdown() {
                                if (failed != nullptr) *failed = until_failure == 0;
                                until_failure = 0;
                            }
                        } const until_the_end{fails ? &failed : nullptr};
                        if (fails) until_failure = at;
                        work(world, nullptr);
                    });
                    said_by = r.said_by, bad_alloc = r.bad_alloc;
                    r.text.copy(text.data(), text.size() - 1);
                }
                const std::int64_t left = living - before;
                INFO(name << " on " << ranks << ", allocation " << at << " of rank " << failing_rank << ": "
                          << text.data());
                REQUIRE(left == 0);
                if (!failed) {
                    REQUIRE(said_by == -1);
                    break;
                }
                ++failures;
                REQUIRE(said_by == failing_rank);
                REQUIRE(bad_alloc);
            }
    });
    CHECK(failures > 20);
}

} // namespace

TEST_CASE("an allocation of options::memory fails") {
    for (const int ranks : {1, 2, 3}) memory_sweep(ranks, ranks < 3 ? 1 : 5);
}

TEST_CASE("any allocation fails") {
    for (const int ranks : {1, 2, 3}) new_sweep(ranks, ranks < 2 ? 3 : 37);
}

TEST_CASE("every allocation of every rank fails in every strategy", "[slow]") {
    for (const int ranks : {1, 2, 3, 4}) memory_sweep(ranks, 1);
    for (const int ranks : {1, 2, 3, 4}) new_sweep(ranks, 1);
}
