#pragma once

#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/plan/cost.hpp>
#include <seqpar/plan/machine.hpp>
#include <seqpar/planning/workload.hpp>
#include <seqpar/score/rows_seen.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/strategy.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <cmath>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace seqpar {

/// A strategy of which only the price is wanted: any model, on no communicator.
class priced_strategy {
public:
    template <class S>
        requires(!std::is_same_v<S, priced_strategy> && strategy<S>)
    priced_strategy(S model) // NOLINT: a strategy is one that has a price
        : name_(model.name()), check_([model](int size) { model.check(size); }),
          forward_([model](const plan::problem& p, int rank) { return model.predict(p, rank); }),
          backward_([model](const plan::problem& p, int rank) { return model.predict_backward(p, rank); }) {}

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    void check(int size) const { check_(size); }
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const { return forward_(p, rank); }
    [[nodiscard]] plan::cost predict_backward(const plan::problem& p, int rank) const { return backward_(p, rank); }

private:
    std::string name_;
    std::function<void(int)> check_;
    std::function<plan::cost(const plan::problem&, int)> forward_, backward_;
};

/// What a planner may choose.
struct candidate {
    priced_strategy strategy;
    any_layout layout = contiguous{};
    bool keep = false; ///< forward keeps what it has moved, for backward

    /// Whether two differ in nothing but degrees, routes, layout and what is kept: "ulysses over ring".
    [[nodiscard]] std::string family() const {
        std::string text;
        for (std::size_t at = 0; at < strategy.name().size();) {
            const std::size_t end = std::min(strategy.name().find('/', at), strategy.name().size());
            text += (at == 0 ? "" : " over ") +
                    strategy.name().substr(at, std::min(strategy.name().find(':', at), end) - at);
            at = end + 1;
        }
        return text;
    }
};

namespace detail {

/// Ranks of a ring above which contiguous shards under a mask take long to price: each rank's block ends elsewhere.
inline constexpr int long_ring = 512;

/// Whether moving queries and their results round a ring takes fewer bytes than moving keys, and in training their gradients.
[[nodiscard]] inline bool queries_are_fewer_bytes(const workload& work) {
    const attention_shape& s = work.shape;
    const auto e = static_cast<index_t>(element_bytes(work.type)),
               a = static_cast<index_t>(accumulator_bytes(work.type));
    const index_t back_q = work.train ? (s.dim + s.dim_v) * e + s.dim * a : 0, back_k = work.train ? e + a : 0;
    return s.queries * s.heads * (s.dim * e + s.dim_v * a + back_q) <
           s.keys * s.kv_heads * (s.dim + s.dim_v) * (e + back_k);
}

/// Strategies without an inner one, for so many ranks, `near` of which are neighbours on a node (1: none are). Of work: as many
/// heads as each of them has.
[[nodiscard]] inline std::vector<priced_strategy> bare_strategies(int ranks, int near, const workload& work) {
    std::vector<priced_strategy> all{ring{}, ring{ring_route::bidirectional()}};
    if (near > 1 && near < ranks && ranks % near == 0) all.emplace_back(ring{ring_route::double_ring(near)});
    if (queries_are_fewer_bytes(work)) all.emplace_back(ring{ring_route::one_way(), ring_passing::queries});
    all.emplace_back(all_gather{0, exchange_pattern::doubling});
    if (ranks <= long_ring) { // else too many rounds with another peer each
        all.emplace_back(all_gather{});
        all.emplace_back(all_gather{1});
        all.emplace_back(tree{});
    }
    // Grids near the one that sends least, and one whose rows are nodes.
    const plan::rank_grid least =
        plan::least_sent(ranks, {{{}, {0, work.shape.heads}}, {{}, {0, work.shape.kv_heads}}});
    for (int pc = 2; pc < ranks; ++pc)
        if (ranks % pc == 0 && ((2 * pc >= least.pc && pc <= 2 * least.pc) || pc == near))
            all.emplace_back(grid{ranks / pc, pc});
    return all;
}

} // namespace detail

/// All that a planner weighs for a workload on so many ranks of a machine: every strategy; ulysses in groups of every degree
/// that divides the ranks, up to the heads, over each of them; and with each the layouts that make a difference. What costs
/// much to price and cannot win is left out: of a mask over more than 512 ranks the rings of contiguous shards, which
/// leave half of the ranks idle, and direct exchanges of so many ranks with each other.
[[nodiscard]] inline std::vector<candidate> candidates(const workload& work, const plan::machine& m, int ranks) {
    const lengths n{work.shape.queries, work.shape.keys};
    const positions rows = positions::whole(n.queries), keys = positions::whole(n.keys);
    const bool masked =
        !rows.empty() && !keys.empty() && work.score.cover(n, rows.range(), keys.range()) != coverage::full;
    std::vector<candidate> all;
    if (ranks == 1) return {{serial{}, contiguous{}, work.keep}};
    for (int degree = 1; degree <= ranks; ++degree) {
        if (ranks % degree != 0 || (degree > work.shape.heads && degree != ranks)) continue;
        const int inner = ranks / degree;
        if (inner == 1) {
            all.push_back({ulysses<>{}, contiguous{}, work.keep});
            continue;
        }
        // Members of an inner strategy are `degree` ranks apart.
        const int near = degree < m.ranks_per_node ? m.ranks_per_node / degree : 1;
        workload share = work; // of a member of a group: it reads one kv head at least
        share.shape.heads = (work.shape.heads + degree - 1) / degree;
        share.shape.kv_heads = (work.shape.kv_heads + degree - 1) / degree;
        for (const priced_strategy& bare : detail::bare_strategies(inner, near, share)) {
            const priced_strategy s = degree == 1 ? bare : priced_strategy(ulysses<priced_strategy>{degree, bare});
            const bool long_ring = bare.name().starts_with("ring") && inner > detail::long_ring;
            if (!masked || !long_ring) all.push_back({s, contiguous{}, work.keep});
            if (!masked) continue;
            all.push_back({s, zigzag{}, work.keep});
            // A group of ulysses joins its members' rows: striped ones are as good as zigzag's then, in many more pieces.
            if (degree == 1) all.push_back({s, striped{}, work.keep});
        }
    }
    return all;
}

} // namespace seqpar
