#pragma once

#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/simgrid.hpp>
#include <seqpar/comm/traced.hpp>
#include <seqpar/core/timeline.hpp>
#include <seqpar/kernel/priced.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/plan/machine.hpp>
#include <seqpar/planning/pricing.hpp>
#include <seqpar/planning/workload.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace seqpar {

/// The communicator that a simulated strategy talks over: counted, and traced where somebody asks.
using simulated_communicator = traced<metered<simgrid_communicator>>;

/// One pass as the simulation saw it.
struct simulated_pass {
    double seconds = 0;                 ///< from when all ranks began until the last one ended
    std::vector<double> busy;           ///< of each rank, the share of these seconds in which it computed
    std::vector<traffic> counted;       ///< what each rank sent
    simulated::traffic inside, between; ///< of all ranks, within nodes and between them
};

/// A scheme as the simulation saw it.
struct simulation {
    simulated_pass forward;
    std::optional<simulated_pass> backward;         ///< in training
    std::vector<std::vector<timeline::span>> spans; ///< of each rank, where they were asked for

    [[nodiscard]] double seconds() const noexcept { return forward.seconds + (backward ? backward->seconds : 0); }
};

/// What a simulation tells of while it runs.
struct simulation_options {
    bool spans = false; ///< write down what each rank does when, in simulation::spans
    /// Instead: is told of it while the simulation runs, some spans of a rank at a time, in the order in which they ended.
    std::function<void(int rank, std::span<const timeline::span>)> each = {};
    std::function<void(double done)> progress =
        {}; ///< the share of the kernel's work that is done; called now and then
};

namespace detail {

/// What one rank of a simulation has, for the kernel to spend its time on.
struct simulated_rank {
    const plan::machine& on;
    storage type;
    std::function<void(double flops)> told;
    simgrid_communicator clock;
    std::shared_ptr<timeline> into; ///< or null
    const std::function<void(int rank, std::span<const timeline::span>)>& each;
    double busy = 0;

    /// Hands over what has been written down, if somebody takes it and it is worth while.
    void hand_over(std::size_t worth = 1) const {
        if (!into || !each || into->spans().size() < worth) return;
        each(clock.rank(), into->spans());
        into->reset();
    }

    void spend(const kernel_work& w) {
        const plan::compute_rate& r = rate(on, type);
        const double seconds = on.call + w.flops() / (w.backward ? r.backward : r.forward);
        const auto begin = into ? into->now() : timeline::clock::time_point{};
        clock.compute(seconds);
        busy += seconds;
        if (into)
            into->add({timeline::category::kernel, w.backward ? "backward" : "forward", begin, into->now(), {}, {}});
        hand_over(64);
        told(w.flops());
    }
};

/// Simulated seconds as a time of a timeline.
[[nodiscard]] inline timeline::clock::time_point time_at(double seconds) {
    return timeline::clock::time_point(
        std::chrono::duration_cast<timeline::clock::duration>(std::chrono::duration<double>(seconds)));
}

/// What all ranks add to, one after the other.
class simulated_passes {
public:
    simulated_passes(int ranks, bool spans) : ends_(static_cast<std::size_t>(ranks)) {
        if (spans) result.spans.resize(ends_.size());
    }

    /// Waits for all ranks, which takes no simulated time.
    static void meet(simgrid_communicator& c) { static_cast<void>(c.split(0, c.rank())); }

    /// Runs a pass on a rank. Collective.
    template <class Pass>
    void run(simgrid_communicator& c, meter& counts, simulated_rank& rank, simulated_pass& of, const Pass& pass) {
        const std::size_t me = static_cast<std::size_t>(c.rank());
        if (me == 0) of.busy.resize(ends_.size()), of.counted.resize(ends_.size());
        meet(c);
        const double begin = c.now();
        const seqpar::simulated::outcome before = c.so_far();
        meet(c); // nobody sends before that was looked at
        counts.reset();
        rank.busy = 0;
        pass();
        ends_[me] = c.now();
        of.busy[me] = rank.busy;
        of.counted[me] = counts.payload();
        if (rank.into)
            rank.into->add({timeline::category::pass,
                            &of == &result.forward ? "forward" : "backward",
                            time_at(begin),
                            rank.into->now(),
                            {},
                            {}});
        meet(c);
        if (me != 0) return;
        of.seconds = *std::max_element(ends_.begin(), ends_.end()) - begin;
        for (double& busy : of.busy) busy = of.seconds > 0 ? busy / of.seconds : 0;
        const seqpar::simulated::outcome after = c.so_far();
        of.inside = {after.inside.messages - before.inside.messages, after.inside.bytes - before.inside.bytes};
        of.between = {after.between.messages - before.between.messages, after.between.bytes - before.between.bytes};
    }

    simulation result;

private:
    std::vector<double> ends_;
};

/// The passes of a bound strategy on ghosts of T.
template <class T, class Bound>
void simulate_rank(Bound& bound, const workload& work, std::span<const placement> where, simgrid_communicator c,
                   meter& counts, simulated_rank& rank, simulated_passes& all) {
    using E = ghost<T>;
    using A = accumulator_t<E>;
    const attention_shape& s = work.shape;
    const placement& mine = where[static_cast<std::size_t>(c.rank())];
    const index_t rows = mine.queries.rows.size(), keys = mine.keys.rows.size();
    const auto view = [&]<class X>(X*, index_t n, index_t heads, index_t dim) {
        return tensor_view<X>(nullptr, {s.batch, n, heads, dim});
    };
    const auto q = view(static_cast<E*>(nullptr), rows, s.heads, s.dim),
               k = view(static_cast<E*>(nullptr), keys, s.kv_heads, s.dim),
               v = view(static_cast<E*>(nullptr), keys, s.kv_heads, s.dim_v),
               out = view(static_cast<E*>(nullptr), rows, s.heads, s.dim_v);
    const auto lse = view(static_cast<A*>(nullptr), rows, s.heads, 1);
    context how;
    how.scale = 1 / std::sqrt(static_cast<double>(s.dim));
    how.n = {s.queries, s.keys};
    how.group = s.heads / s.kv_heads;
    const local_attention<priced, any_score> local{priced([&](const kernel_work& w) { rank.spend(w); }), work.score,
                                                   how};
    const operands<E> x{q, k, v, out, work.lse || work.train ? lse : tensor_view<A>{}};

    typename Bound::template saved<E> kept;
    all.run(c, counts, rank, all.result.forward,
            [&] { bound.template forward<E>(local, where, x, work.train && work.keep ? &kept : nullptr); });
    if (!work.train) return;
    const gradients<E> g{{out, lse, lse},
                         false,
                         true,
                         view(static_cast<A*>(nullptr), rows, s.heads, s.dim),
                         view(static_cast<A*>(nullptr), keys, s.kv_heads, s.dim),
                         view(static_cast<A*>(nullptr), keys, s.kv_heads, s.dim_v)};
    all.run(c, counts, rank, *all.result.backward, [&] {
        bound.template backward<E>(local, where, operands<E>{q, k, v, {}, {}}, g, kept);
    });
}

} // namespace detail

/// Runs a strategy on so many ranks of a simulated machine: the same code that moves real tensors, on ghosts of them. A rank's
/// kernel takes machine.call and its flops by the machine's rate, in tiles that the score does not skip; a message takes what
/// the network makes of it, and moves while the kernel computes. What copies, merges and checks take is not simulated.
///
/// Strategy: a strategy for simulated_communicator, or any_strategy<simulated_communicator, priced>.
/// @throws refusal, as plan::check_run and strategy.check, and if a simulation is under way in this process
template <class Strategy>
[[nodiscard]] simulation simulate(const plan::machine& m, int ranks, const workload& work, const Strategy& strategy,
                                  const any_layout& layout, const simulation_options& options = {}) {
    plan::check_run(m, ranks);
    strategy.check(ranks);
    const std::vector<placement> where = detail::placements(work.shape, layout, ranks);
    detail::simulated_passes all(ranks, options.spans);
    if (work.train) all.result.backward.emplace();
    double done = 0;
    const double total = work.flops();
    const auto told = [&](double flops) {
        done += flops;
        if (options.progress) options.progress(total > 0 ? std::min(1.0, done / total) : 1);
    };
    simulated::run(m, ranks, [&](simgrid_communicator c) {
        const auto into = options.spans || options.each
                              ? std::make_shared<timeline>([c] { return detail::time_at(c.now()); })
                              : nullptr;
        const auto counts = std::make_shared<meter>();
        simulated_communicator talks(metered<simgrid_communicator>(c, counts), into);
        detail::simulated_rank rank{m, work.type, told, c, into, options.each};
        auto bound = strategy.on(talks);
        if (into) into->reset();
        switch (work.type) {
        case storage::float32:
            detail::simulate_rank<float>(bound, work, where, c, *counts, rank, all);
            break;
        case storage::float64:
            detail::simulate_rank<double>(bound, work, where, c, *counts, rank, all);
            break;
        case storage::bfloat16:
            detail::simulate_rank<bfloat16>(bound, work, where, c, *counts, rank, all);
            break;
        }
        rank.hand_over();
        if (options.spans) all.result.spans[static_cast<std::size_t>(c.rank())] = into->spans();
    });
    return std::move(all.result);
}

} // namespace seqpar
