/// What simulated strategies send on ghosts: the messages, bytes and rounds of real runs on threads, and those of the formulas, as
/// integers.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/scheme_case.hpp>
#include <support/simulated_cluster.hpp>

#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/simgrid.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/kernel/priced.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/planning/pricing.hpp>
#include <seqpar/planning/simulate.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <cstddef>
#include <memory>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

using real_communicator = metered<thread_communicator>;
using real_strategy = any_strategy<real_communicator, reference>;
using simulated_strategy = any_strategy<simulated_communicator, priced>;

/// What each rank sends in a forward and in a backward of real elements.
struct real_counts {
    std::vector<traffic> forward, backward;
};

[[nodiscard]] real_counts run_for_real(int ranks, const workload& work, const real_strategy& how,
                                       const any_layout& layout) {
    const attention_shape& s = work.shape;
    real_counts all{std::vector<traffic>(static_cast<std::size_t>(ranks)),
                    std::vector<traffic>(static_cast<std::size_t>(ranks))};
    threads::run(ranks, [&](thread_communicator world) {
        const auto me = static_cast<std::size_t>(world.rank());
        const index_t rows = layout.positions(world.rank(), ranks, s.queries).size(),
                      keys = layout.positions(world.rank(), ranks, s.keys).size();
        const tensor<float> q = normal<float>({s.batch, rows, s.heads, s.dim}, me),
                            k = normal<float>({s.batch, keys, s.kv_heads, s.dim}, me + 100),
                            v = normal<float>({s.batch, keys, s.kv_heads, s.dim_v}, me + 200),
                            dout = normal<float>({s.batch, rows, s.heads, s.dim_v}, me + 300);
        const auto counts = std::make_shared<meter>();
        attention attend{real_communicator(world, counts),
                         how,
                         layout,
                         work.score,
                         reference{},
                         span_backend<float>{},
                         options{.save = work.keep ? saving::keep : saving::resend}};
        counts->reset();
        const auto result = attend.forward(q, k, v);
        all.forward[me] = counts->payload();
        counts->reset();
        static_cast<void>(attend.backward(dout, result));
        all.backward[me] = counts->payload();
    });
    return all;
}

void check_rank(const traffic& simulated, const traffic& real, const plan::cost& formula) {
    CHECK(simulated.bytes == real.bytes);
    CHECK(simulated.messages == real.messages);
    CHECK(simulated.rounds == real.rounds);
    CHECK(static_cast<std::size_t>(simulated.bytes) == formula.bytes);
    CHECK(static_cast<std::size_t>(simulated.messages) == formula.messages);
    CHECK(static_cast<std::size_t>(simulated.rounds) == formula.rounds);
}

/// Bytes that all ranks sent.
[[nodiscard]] std::size_t sum(const std::vector<traffic>& of) {
    std::size_t bytes = 0;
    for (const traffic& t : of) bytes += static_cast<std::size_t>(t.bytes);
    return bytes;
}

void check(int ranks, const workload& work, const real_strategy& real, const simulated_strategy& how,
           const any_layout& layout) {
    INFO(how.name() << " on " << ranks << ", " << layout.name() << ", " << work.score.name()
                    << (work.keep ? ", keep" : ", resend"));
    const real_counts seen = run_for_real(ranks, work, real, layout);
    const simulation run = simulate(fat_tree_of_nodes(), ranks, work, how, layout);
    const std::vector<placement> where = detail::placements(work.shape, layout, ranks);
    const detail::pricing prices(work, where);
    const auto nobody = [](const plan::step&) {};
    const plan::problem p = prices.problem(nobody);
    REQUIRE(run.backward.has_value());
    for (int r = 0; r < ranks; ++r) {
        INFO("rank " << r);
        const auto i = static_cast<std::size_t>(r);
        check_rank(run.forward.counted[i], seen.forward[i], how.predict(p, r));
        check_rank(run.backward->counted[i], seen.backward[i], how.predict_backward(p, r));
    }
    // What the network carried is what the ranks sent.
    CHECK(run.forward.inside.bytes + run.forward.between.bytes == sum(run.forward.counted));
    CHECK(run.backward->inside.bytes + run.backward->between.bytes == sum(run.backward->counted));
    if (ranks <= 4) CHECK(run.forward.between.bytes == 0); // a node has four
}

void check_all(std::size_t every) {
    const std::vector<any_layout> layouts{zigzag{}, striped{}, contiguous{}};
    const std::vector<any_score> scores{causal{}, full{}, sliding_window{9, 4}};
    const std::vector<attention_shape> shapes{
        {1, 37, 37, 6, 3, 4, 5}, {2, 41, 41, 5, 1, 3, 3}, {1, 29, 53, 9, 3, 4, 8}};
    std::size_t next = 0;
    for (int ranks = 1; ranks <= 9; ++ranks) {
        const auto real = all_strategies<real_communicator, reference>(ranks);
        const auto simulated = all_strategies<simulated_communicator, priced>(ranks);
        REQUIRE(real.size() == simulated.size());
        for (std::size_t i = 0; i < real.size(); ++i)
            for (std::size_t n = 0; n < 2 * layouts.size() * scores.size() * shapes.size(); ++n) {
                if (next++ % every != 0) continue;
                workload work;
                work.shape = shapes[n / 2 / layouts.size() / scores.size()];
                work.score = scores[n / 2 / layouts.size() % scores.size()];
                work.type = storage::float32;
                work.train = true;
                work.keep = n % 2 == 1;
                check(ranks, work, real[i], simulated[i], layouts[n / 2 % layouts.size()]);
            }
    }
}

} // namespace

TEST_CASE("simulated traffic is that of real runs and of the formulas") { check_all(23); } // each strategy twice
TEST_CASE("simulated traffic, the full product", "[slow]") { check_all(1); }
