#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/workspace.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>

#include <atomic>
#include <cstdint>

using namespace seqpar;

TEST_CASE("a workspace lends the same blocks again, and holds no more than was lent at one time") {
    counted_memory source;
    {
        workspace w(&source);
        const auto call = [&] {
            buffer a(100000, &w);
            { buffer b(50000, &w), c(50000, &w); }
            buffer d(64000, &w); // too much for the place of b, and not for both
        };
        call();
        CHECK(source.peak() <= 200000 + 4 * 64);
        CHECK(w.lent() == 0);
        call();
        const std::size_t before = source.allocations();
        for (int i = 0; i < 5; ++i) call();
        CHECK(source.allocations() == before);
        CHECK(w.held() <= 200000 + 4 * 64);
        CHECK(source.held() == w.held());
        w.release();
        CHECK(source.held() == 0);
        buffer kept(10, &w);
        CHECK(w.lent() == 64);
    }
    CHECK(source.held() == 0);
}

TEST_CASE("an over-aligned block goes straight to the source") {
    counted_memory source;
    workspace w(&source);
    void* const block = w.allocate(256, 4096);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 4096 == 0);
    w.deallocate(block, 256, 4096);
    CHECK(source.held() == 0);
}

TEST_CASE("after a few steps of training no strategy allocates scratch") {
    const index_t n = 128;
    for (const int p : {1, 4})
        for (const auto& strategy : testing::all_strategies<thread_communicator>(p))
            for (const saving save : {saving::resend, saving::keep}) {
                INFO(strategy.name() << " on " << p << (save == saving::keep ? ", keep" : ", resend"));
                std::atomic<std::size_t> late{0}, early{0};
                threads::run(p, [&](thread_communicator world) {
                    counted_memory source;
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
                        const std::size_t before = source.allocations();
                        const auto fwd = attend.forward(q, q, q);
                        static_cast<void>(attend.backward(q, fwd));
                        (step < 4 ? early : late) += source.allocations() - before;
                    }
                });
                CHECK(early > 0);
                CHECK(late == 0);
            }
}
