#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/workspace.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory_resource>

using namespace seqpar;

namespace {

/// Counts what is asked of it.
class asked final : public std::pmr::memory_resource {
public:
    int times = 0;
    std::size_t held = 0, most = 0;

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        ++times;
        most = std::max(most, held += bytes);
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
        held -= bytes;
        std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

} // namespace

TEST_CASE("a workspace lends the same blocks again, and holds no more than was lent at one time") {
    asked source;
    {
        workspace w(&source);
        const auto call = [&] {
            buffer a(100000, &w);
            { buffer b(50000, &w), c(50000, &w); }
            buffer d(64000, &w); // too much for the place of b, and not for both
        };
        call();
        CHECK(source.most <= 200000 + 4 * 64);
        CHECK(w.lent() == 0);
        call();
        const int before = source.times;
        for (int i = 0; i < 5; ++i) call();
        CHECK(source.times == before);
        CHECK(w.held() <= 200000 + 4 * 64);
        CHECK(source.held == w.held());
        w.release();
        CHECK(source.held == 0);
        buffer kept(10, &w);
        CHECK(w.lent() == 64);
    }
    CHECK(source.held == 0);
}

TEST_CASE("an over-aligned block goes straight to the source") {
    asked source;
    workspace w(&source);
    void* const block = w.allocate(256, 4096);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 4096 == 0);
    w.deallocate(block, 256, 4096);
    CHECK(source.held == 0);
}

TEST_CASE("after a few steps of training no strategy allocates scratch") {
    const index_t n = 512;
    for (const int p : {1, 4})
        for (const auto& strategy : testing::all_strategies<thread_communicator>(p))
            for (const saving save : {saving::resend, saving::keep}) {
                INFO(strategy.name() << " on " << p << (save == saving::keep ? ", keep" : ", resend"));
                std::atomic<int> late{0}, early{0};
                threads::run(p, [&](thread_communicator world) {
                    asked source;
                    workspace w(&source);
                    const positions at = zigzag{}.positions(world.rank(), p, n);
                    const auto q =
                        testing::normal<float>({1, at.size(), 4, 32}, 1 + static_cast<unsigned>(world.rank()));
                    attention attend{world,
                                     strategy,
                                     zigzag{},
                                     any_score(causal{}),
                                     any_kernel(flash{}),
                                     options{.save = save, .memory = &w}};
                    for (int step = 0; step < 8; ++step) {
                        const int before = source.times;
                        const auto fwd = attend.forward(q, q, q);
                        static_cast<void>(attend.backward(q, fwd));
                        (step < 4 ? early : late) += source.times - before;
                    }
                });
                CHECK(early > 0);
                CHECK(late == 0);
            }
}
