/// Strategies run on ghosts: the same messages and bytes as with real elements, and no storage. 2^40 rows fit.
#include <support/catch.hpp>

#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <memory>
#include <mutex>
#include <vector>

using namespace seqpar;

namespace {

/// A kernel that computes nothing.
struct idle {
    template <class Q, class Keys, class S, class Partial>
    void forward(const context&, const Q&, const Keys&, const S&, Partial&) const {}
};

template <class Strategy>
void check(const Strategy& strategy, index_t rows, const any_layout& layout) {
    using T = ghost<bfloat16>;
    constexpr int ranks = 4;
    constexpr index_t heads = 8, kv_heads = 2, dim = 128;
    std::vector<placement> where;
    for (int r = 0; r < ranks; ++r) {
        const positions at = layout.positions(r, ranks, rows);
        where.push_back({{at, {0, heads}}, {at, {0, kv_heads}}});
    }
    threads::run(ranks, [&](thread_communicator world) {
        const auto counted = std::make_shared<meter>();
        metered<thread_communicator> comm(world, counted);
        counted_memory memory;
        auto bound = strategy.on(comm);
        counted->reset();
        const index_t mine = where[static_cast<std::size_t>(world.rank())].queries.rows.size();
        context how;
        how.n = {rows, rows};
        how.group = heads / kv_heads;
        how.memory = &memory;
        const tensor_view<T> q(nullptr, {1, mine, heads, dim}), k(nullptr, {1, mine, kv_heads, dim});
        bound.template forward<T>(local_attention<idle, causal>{{}, {}, how}, std::span<const placement>(where),
                                  operands<T>{q, k, k, q, tensor_view<ghost<float>>(nullptr, {1, mine, heads, 1})});
        const auto no_scratch = [](const extents&, const extents&, std::span<const positions>) {
            return std::size_t{0};
        };
        const auto seen = [&](const origin& queries, const origin& keys) {
            return rows_seen(causal{}, {rows, rows}, queries.rows, keys.rows).at;
        };
        const auto sees = [&](const origin& queries, const origin& keys) {
            return may_see(causal{}, {rows, rows}, queries.rows, keys.rows);
        };
        const auto predicted = strategy.predict(plan::problem{.batch = 1,
                                                              .dim = dim,
                                                              .dim_v = dim,
                                                              .group = heads / kv_heads,
                                                              .element_bytes = 2,
                                                              .accumulator_bytes = 4,
                                                              .where = where,
                                                              .kernel_bytes = no_scratch,
                                                              .sees = sees,
                                                              .seen = seen},
                                                world.rank());
        static std::mutex mutex;
        const std::lock_guard lock(mutex);
        CHECK(static_cast<std::size_t>(counted->payload().bytes) == predicted.bytes);
        CHECK(static_cast<std::size_t>(counted->payload().messages) == predicted.messages);
        CHECK(predicted.bytes > 0);
        CHECK(memory.peak() == 0);
    });
}

} // namespace

TEST_CASE("ghosts cost what real elements cost on the wire, and nothing in memory") {
    const std::vector<any_layout> layouts{zigzag{}, striped{}};
    std::size_t next = 0;
    for (const index_t rows : {index_t{37}, index_t{1'000'000'007}, (index_t{1} << 40) + 7}) {
        const auto in_turn = [&](const auto& strategy) { check(strategy, rows, layouts[next++ % layouts.size()]); };
        in_turn(ring{});
        in_turn(ring{ring_route::bidirectional()});
        in_turn(ring{ring_route::double_ring(2)});
        in_turn(ring{.passing = ring_passing::queries});
        // which keys all_gather's striped queries see it finds by looking at each of them: too many here
        check(all_gather{}, rows, zigzag{});
        check(all_gather{2}, rows, zigzag{});
        check(all_gather{0, exchange_pattern::ring}, rows, zigzag{});
        check(all_gather{1, exchange_pattern::doubling}, rows, zigzag{});
        in_turn(tree{});
        in_turn(grid{2, 2});
        in_turn(ulysses<>{});
        in_turn(ulysses<ring>{2, {}});
        check(ulysses<all_gather>{2, {}}, rows, zigzag{});
        in_turn(ulysses<tree>{2, {}});
    }
}
