#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/plan/network.hpp>
#include <seqpar/planning/candidate.hpp>
#include <seqpar/planning/estimate.hpp>
#include <seqpar/planning/workload.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace seqpar {

/// A scheme with its price.
struct plan_entry {
    candidate scheme;
    estimate cost;
    bool fits = true;     ///< into a rank's memory
    std::string why = {}; ///< what makes it slower than the winner; of the winner, what it spends its time on
};

/// Every scheme, the quickest that fits first; after those that fit, the ones that do not, by the memory that they lack.
struct ranking {
    std::vector<plan_entry> entries;
    int ranks = 1;

    [[nodiscard]] const plan_entry& winner() const { return entries.front(); }
    /// The first of each family, in the order of the ranking.
    [[nodiscard]] std::vector<const plan_entry*> families() const {
        std::map<std::string, const plan_entry*> seen;
        std::vector<const plan_entry*> all;
        for (const plan_entry& e : entries)
            if (seen.emplace(e.scheme.family(), &e).second) all.push_back(&e);
        return all;
    }
};

namespace detail {

[[nodiscard]] inline std::string per_cent(double share) {
    return std::to_string(static_cast<int>(std::lround(100 * share))) + "%";
}

/// What a scheme spends its time on, or what it loses by.
[[nodiscard]] inline std::string reason(const plan_entry& e, const plan_entry* winner, const workload& work,
                                        std::size_t memory, int ranks) {
    if (!e.fits)
        return "needs " + per_cent(static_cast<double>(e.cost.memory) / static_cast<double>(memory)) +
               " of a rank's memory";
    pass_time t = e.cost.forward_time;
    t += e.cost.backward_time;
    if (winner == nullptr) {
        if (t.whole <= t.compute * 1.02) return "its messages are hidden by the kernel";
        return "waits for messages " + per_cent(1 - t.compute / t.whole) + " of the time";
    }
    pass_time best = winner->cost.forward_time;
    best += winner->cost.backward_time;
    const double loss = t.whole - best.whole;
    if (loss <= 0.005 * best.whole) return "as quick";
    std::string text;
    const auto say = [&](const std::string& what) { text += (text.empty() ? "" : "; ") + what; };
    if (t.compute - best.compute > 0.3 * loss) {
        const bool idle = work.shape.heads < ranks && e.scheme.strategy.name() == "ulysses";
        say(idle ? std::to_string(ranks - work.shape.heads) + " ranks have no head"
            : t.compute > 2 * best.compute
                ? "its busiest rank computes " + std::to_string(std::lround(t.compute / best.compute)) +
                      " times as long"
                : "its busiest rank computes " + per_cent(t.compute / best.compute - 1) + " longer");
    }
    const double waits = t.whole - t.compute, waited = best.whole - best.compute;
    if (waits - waited > 0.3 * loss) {
        if (t.latency > 0.5 * t.exchange)
            say("latency of " + std::to_string(e.cost.forward.rounds + e.cost.backward.rounds) + " rounds");
        else if (t.whole > 1.1 * t.alone)
            say("its messages share links");
        else
            say("waits for messages " + per_cent(waits / t.whole) + " of the time");
    }
    return text.empty() ? "a little of each" : text;
}

} // namespace detail

/// Prices all candidates for a workload on so many ranks of a machine, and ranks them; in training, with `both_savings`, the
/// best of them with and without what forward can keep.
/// O(candidates * ranks); some milliseconds for 256 ranks.
[[nodiscard]] inline ranking rank_schemes(workload work, const plan::machine& m, const plan::network& net,
                                          const std::vector<candidate>& all, bool both_savings = true) {
    const int ranks = net.ranks();
    std::map<std::string, std::vector<placement>> placed; // by layout
    ranking result;
    result.ranks = ranks;
    const auto add = [&](const candidate& c) {
        std::vector<placement>& where = placed[c.layout.name()];
        if (where.empty()) where = detail::placements(work.shape, c.layout, ranks);
        work.keep = c.keep;
        plan_entry entry{c, price(c.strategy, work, m, net, where)};
        entry.fits = m.memory == 0 || entry.cost.memory <= m.memory;
        result.entries.push_back(std::move(entry));
    };
    const auto sort = [&] {
        // Of equals, the one with less memory, then the shorter name.
        std::stable_sort(result.entries.begin(), result.entries.end(), [](const plan_entry& a, const plan_entry& b) {
            const auto key = [](const plan_entry& e) {
                return std::tuple(!e.fits, e.fits ? e.cost.seconds() : static_cast<double>(e.cost.memory),
                                  e.cost.memory, e.scheme.strategy.name().size());
            };
            return key(a) < key(b);
        });
    };
    for (const candidate& c : all) add(c);
    sort();
    // Both ways to get at what has moved: of the best, where keeping it may make a difference.
    if (work.train && both_savings) {
        const std::size_t best = std::min<std::size_t>(16, result.entries.size());
        for (std::size_t i = 0; i < best; ++i) {
            candidate other = result.entries[i].scheme;
            other.keep = !other.keep;
            add(other);
        }
        sort();
    }
    for (std::size_t i = 0; i < result.entries.size(); ++i)
        result.entries[i].why =
            detail::reason(result.entries[i], i == 0 ? nullptr : &result.entries[0], work, m.memory, ranks);
    return result;
}

/// The same of all candidates that there are.
/// @throws refusal if the machine has not as many ranks, or no scheme fits into a rank's memory: with the first number of
///         ranks, of twice, four times, ... as many and all, on which one does, or else what it lacks
[[nodiscard]] inline ranking rank_schemes(const workload& work, const plan::machine& m, int ranks) {
    ranking all = rank_schemes(work, m, plan::network(m, ranks), candidates(work, m, ranks));
    if (all.winner().fits) return all;
    const auto gib = [](std::size_t bytes) { return static_cast<double>(bytes) / (1 << 30); };
    std::string text = detail::concat(
        "nothing fits: on ", ranks, " ranks of machine '", m.name, "' ", all.winner().scheme.strategy.name(),
        " needs least, ", gib(all.winner().cost.memory), " GiB of a rank, and a rank has ", gib(m.memory), " GiB");
    for (int more = ranks; more < m.ranks();) {
        more = more <= m.ranks() / 2 ? 2 * more : m.ranks();
        const ranking other = rank_schemes(work, m, plan::network(m, more), candidates(work, m, more));
        if (!other.winner().fits) continue;
        throw refusal(detail::concat(text, "; doubled, the first number of ranks on which something fits is ", more,
                                     ", with ", other.winner().scheme.strategy.name()));
    }
    throw refusal(text + ", and more ranks of it do not help: allowed are fewer tokens or a smaller batch");
}

/// From how many tokens on which family of schemes wins.
struct crossover {
    index_t tokens = 0;
    std::string strategy, layout;
    double seconds = 0;
};

/// The winners for the workload with 2^10 to 2^24 tokens, and no fewer than ranks, in the place of its own, among the first of
/// each family of a ranking: an entry where the family changes. One that is slower by less than 1% does not lose.
/// Queries and keys are scaled alike.
[[nodiscard]] inline std::vector<crossover> crossovers(const workload& work, const plan::machine& m,
                                                       const ranking& of) {
    std::vector<candidate> best;
    for (const plan_entry* e : of.families()) best.push_back(e->scheme);
    std::vector<crossover> all;
    std::string last;
    const plan::network net(m, of.ranks);
    for (int log2 = 10; log2 <= 24; log2 += of.ranks > 1024 ? 2 : 1) {
        workload scaled = work;
        scaled.shape.queries = scaled.shape.keys = index_t{1} << log2;
        if (scaled.shape.queries < of.ranks) continue;
        const ranking found = rank_schemes(scaled, m, net, best, false);
        if (!found.winner().fits) break;
        const auto still = std::find_if(found.entries.begin(), found.entries.end(), [&](const plan_entry& e) {
            return e.fits && e.scheme.family() == last && e.cost.seconds() <= 1.01 * found.winner().cost.seconds();
        });
        if (still != found.entries.end()) continue;
        const candidate& c = found.winner().scheme;
        last = c.family();
        all.push_back({scaled.shape.queries, c.strategy.name(), c.layout.name(), found.winner().cost.seconds()});
    }
    return all;
}

} // namespace seqpar
