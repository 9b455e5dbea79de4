#pragma once

#include <seqpar/kernel/priced.hpp>
#include <seqpar/plan/cost.hpp>
#include <seqpar/plan/machine.hpp>
#include <seqpar/plan/network.hpp>
#include <seqpar/planning/pricing.hpp>
#include <seqpar/planning/workload.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

namespace seqpar {

/// Seconds of a pass, in closed form.
struct pass_time {
    double whole = 0;
    double alone = 0;    ///< if no message had to share a link with those of other ranks
    double compute = 0;  ///< of `whole`, what the kernel takes on the rank that has most to do at each step
    double exchange = 0; ///< what the messages of all steps take; what of it is not covered by computing is in `whole`
    double latency = 0;  ///< of `exchange`, what messages without bytes would take

    pass_time& operator+=(const pass_time& other) noexcept {
        whole += other.whole, alone += other.alone, compute += other.compute;
        exchange += other.exchange, latency += other.latency;
        return *this;
    }
};

/// What a scheme costs on a machine, in closed form: of each cost the largest over the ranks, and the time of the slowest.
struct estimate {
    plan::cost forward, backward; ///< backward: zero unless in training
    pass_time forward_time, backward_time;
    std::size_t memory = 0; ///< the peak of a rank: its own tensors, and what the strategy holds beside them

    [[nodiscard]] double seconds() const noexcept { return forward_time.whole + backward_time.whole; }
};

namespace detail {

/// The steps of a pass as one rank after the other tells them, at each step what the ranks have most of.
class course {
public:
    course(const workload& work, const plan::machine& m, bool backward)
        : work_(work), n_{work.shape.queries, work.shape.keys}, call_(m.call), backward_(backward),
          rate_(backward ? rate(m, work.type).backward : rate(m, work.type).forward) {}

    void next_rank() noexcept { at_ = 0; }
    void operator()(const plan::step& s) {
        if (at_ == moments_.size()) moments_.emplace_back();
        moment& now = moments_[at_++];
        for (const plan::step::message& m : s.sent) {
            if (m.bytes == 0 || m.shift % m.group == 0) continue;
            std::size_t& bytes = now.sent[{m.group, m.stride, m.shift}];
            bytes = std::max(bytes, m.bytes);
        }
        double seconds = 0;
        for (const plan::step::work& w : s.computed) {
            kernel_work call{backward_, 0, work_.shape.dim, work_.shape.dim_v};
            for (const positions& keys : w.keys) call.pairs += pairs_in_tiles(work_.score, n_, w.queries->rows, keys);
            call.pairs *= static_cast<double>(work_.shape.batch * w.queries->heads.count);
            seconds += call_ + call.flops() / rate_;
        }
        now.compute = std::max(now.compute, seconds);
    }

    [[nodiscard]] pass_time over(const plan::network& net) const {
        pass_time all;
        const moment* before = nullptr;
        for (const moment& m : moments_) {
            const bool repeated = before && before->sent == m.sent;
            before = &m;
            // Messages of several patterns share what they have in common: one after the other, but for their latency.
            double latency = 0, moving = 0, alone = 0;
            for (auto first = m.sent.begin(); first != m.sent.end();) {
                const auto [group, stride, shift] = first->first;
                plan::pattern p{group, stride, {}};
                std::size_t most = 0;
                for (;
                     first != m.sent.end() && std::get<0>(first->first) == group && std::get<1>(first->first) == stride;
                     ++first) {
                    p.shifts.push_back(std::get<2>(first->first));
                    most = std::max(most, first->second);
                }
                const plan::split_timing& t = net.split_over(p);
                const double bytes = static_cast<double>(most);
                latency = std::max(latency, t.latency());
                moving += (repeated ? t.seconds_repeated(bytes) : t.seconds(bytes)) - t.latency();
                alone += t.seconds_alone(bytes) - t.latency();
            }
            all.compute += m.compute, all.exchange += latency + moving, all.latency += latency;
            all.whole += std::max(m.compute, latency + moving);
            all.alone += std::max(m.compute, latency + alone);
        }
        return all;
    }

private:
    struct moment {
        std::map<std::tuple<int, int, int>, std::size_t> sent; // group, stride, shift: bytes
        double compute = 0;
    };

    const workload& work_;
    lengths n_;
    double call_;
    bool backward_;
    double rate_;
    std::vector<moment> moments_;
    std::size_t at_ = 0;
};

/// Ranks that stand for all, where there are many: what ranks cost differs by where they are in the sequence, at the borders of
/// nodes, and by the heads that they get. Of contiguous shards under a causal mask the last rank computes most, and the one before
/// it sends longest; of groups of ulysses that do not divide the heads, the first member of the last one.
[[nodiscard]] inline std::vector<int> sample_of_ranks(int ranks, index_t heads) {
    std::vector<int> all(static_cast<std::size_t>(ranks));
    std::iota(all.begin(), all.end(), 0);
    if (ranks <= 64) return all; // under a window few of them may send from node to node
    all = {0, ranks - 2, ranks - 1};
    if (ranks <= 1024) all.insert(all.end(), {1, ranks / 4, ranks / 2});
    for (int degree = 3; degree < ranks && degree <= heads; ++degree)
        if (ranks % degree == 0 && heads % degree != 0) all.push_back(ranks - degree);
    return all;
}

[[nodiscard]] inline plan::cost most_of(const plan::cost& a, const plan::cost& b) noexcept {
    return {std::max(a.messages, b.messages), std::max(a.bytes, b.bytes), std::max(a.rounds, b.rounds),
            std::max(a.memory, b.memory), std::max(a.kept, b.kept)};
}

} // namespace detail

/// Prices a strategy on a machine: the loops that give its exact messages and bytes, with the time that each step takes. At each
/// step a rank waits for the slowest, messages share links as `net` counts, and what travels beside the kernel is hidden by
/// it. Up to 64 ranks are all looked at, of more some that stand for them: few enough to miss the busiest rank of a grid whose
/// contiguous shards a mask makes uneven. O(steps) for each of them, where a ring's causal
/// contiguous shards take O(P^2).
/// @pre net is that of m; where: the placement of each of its ranks
/// @throws refusal if the strategy cannot run on so many ranks
template <class Strategy>
[[nodiscard]] estimate price(const Strategy& strategy, const workload& work, const plan::machine& m,
                             const plan::network& net, std::span<const placement> where) {
    strategy.check(net.ranks());
    const detail::pricing prices(work, where);
    estimate all;
    detail::course forward(work, m, false), backward(work, m, true);
    const plan::problem there = prices.problem(forward), back = prices.problem(backward);
    for (const int rank : detail::sample_of_ranks(net.ranks(), work.shape.heads)) {
        forward.next_rank();
        const plan::cost ahead = strategy.predict(there, rank);
        all.forward = detail::most_of(all.forward, ahead);
        std::size_t held = ahead.memory;
        if (work.train) {
            backward.next_rank();
            const plan::cost behind = strategy.predict_backward(back, rank);
            all.backward = detail::most_of(all.backward, behind);
            held = std::max(held, behind.memory);
        }
        all.memory = std::max(all.memory, prices.own_bytes(rank) + held);
    }
    all.forward_time = forward.over(net);
    if (work.train) all.backward_time = backward.over(net);
    return all;
}

} // namespace seqpar
