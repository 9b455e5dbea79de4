#pragma once

#include <seqpar/plan/cost.hpp>
#include <seqpar/plan/ring_route.hpp>

#include <vector>

namespace seqpar::plan {

/// Something that goes from one rank to another: whose block it is of, and the other rank.
struct leg {
    int owner = -1, peer = -1;
    explicit operator bool() const noexcept { return owner >= 0; }
};

/// What each rank does at each step of a ring. Every rank computes the same one, from the placements.
///
/// At step t a rank is visited, in each stream, by the block that has come t hops. Meanwhile that block is passed on, if
/// some rank further on its way needs it, and what was made of the block of the step before (a sum: gradients of keys, or
/// results of queries) goes to the next rank if that needs the block, too, else home. A block's sums so form a chain for
/// each stretch of ranks that need it, begun at the stretch's first rank; what its owner makes of it never leaves.
class ring_schedule {
public:
    /// p must outlive the schedule. O(P) to O(P^2) questions who sees whom: where a block ends is looked for from the end.
    ring_schedule(const problem& p, const ring_route& route, ring_passing passing)
        : p_(&p), route_(route), passing_(passing) {
        for (int stream = 0; stream < streams(); ++stream)
            for (int owner = 0; owner < size(); ++owner) {
                int hop = route_.hops(stream, size());
                while (hop > 0 && !needs(place(stream, owner, hop), owner)) --hop;
                last_.push_back(hop);
            }
    }

    [[nodiscard]] int size() const { return p_->size(); }
    [[nodiscard]] int streams() const { return route_.streams(); }
    /// The last one only brings sums home.
    [[nodiscard]] int steps() const { return route_.hops(0, size()) + 2; }

    /// Whose block a rank computes with; -1: with none.
    [[nodiscard]] int visitor(int rank, int stream, int step) const {
        const int owner = here(rank, stream, step);
        return owner >= 0 && visits(stream, owner, step) ? owner : -1;
    }

    /// The block that a rank passes on, and to whom; the one that it gets, and from whom.
    [[nodiscard]] leg passes_on(int rank, int stream, int step) const {
        const int owner = here(rank, stream, step);
        if (owner < 0 || step + 1 > last(stream, owner)) return {};
        return {owner, place(stream, owner, step + 1)};
    }
    [[nodiscard]] leg gets(int rank, int stream, int step) const {
        const int owner = here(rank, stream, step + 1);
        if (owner < 0 || step + 1 > last(stream, owner)) return {};
        return {owner, place(stream, owner, step)};
    }

    /// The sum that a rank sends, and to whom: of the block that it has computed with at the step before.
    [[nodiscard]] leg sends_sum(int rank, int stream, int step) const {
        const int owner = step < 2 ? -1 : visitor(rank, stream, step - 1);
        if (owner < 0) return {};
        return {owner, visits(stream, owner, step) ? place(stream, owner, step) : owner};
    }
    /// The sum of the block that it computes with, from the rank before.
    [[nodiscard]] leg continues_sum(int rank, int stream, int step) const {
        const int owner = step < 2 ? -1 : visitor(rank, stream, step);
        if (owner < 0 || !visits(stream, owner, step - 1)) return {};
        return {owner, place(stream, owner, step - 1)};
    }
    /// A sum of its own block that comes home.
    [[nodiscard]] leg sum_home(int rank, int stream, int step) const {
        if (step < 2 || !visits(stream, rank, step - 1) || visits(stream, rank, step)) return {};
        return {rank, place(stream, rank, step - 1)};
    }

    /// How many times an owner's block is sent, and how many of its sums are.
    [[nodiscard]] int times_sent(int owner) const {
        int times = 0;
        for (int stream = 0; stream < streams(); ++stream) times += last(stream, owner);
        return times;
    }
    [[nodiscard]] int sums_sent(int owner) const {
        int sums = 0;
        for (int stream = 0; stream < streams(); ++stream)
            for (int hop = 1; hop <= last(stream, owner); ++hop) sums += visits(stream, owner, hop);
        return sums;
    }

private:
    [[nodiscard]] int place(int stream, int owner, int hop) const { return route_.place(stream, owner, size(), hop); }
    [[nodiscard]] int last(int stream, int owner) const {
        return last_[static_cast<std::size_t>(stream * size() + owner)];
    }
    /// Whose turn it is to be here, if it comes that far; -1: nobody's.
    [[nodiscard]] int here(int rank, int stream, int step) const {
        return step > route_.hops(stream, size()) ? -1 : route_.owner(stream, rank, size(), step);
    }
    /// Whether a rank computes with its visitor. An owner does so once, in the first stream.
    [[nodiscard]] bool visits(int stream, int owner, int hop) const {
        if (hop == 0) return stream == 0 && needs(owner, owner);
        return hop <= last(stream, owner) && needs(place(stream, owner, hop), owner);
    }
    [[nodiscard]] bool needs(int rank, int owner) const {
        const int asks = passing_ == ring_passing::queries ? owner : rank,
                  answers = passing_ == ring_passing::queries ? rank : owner;
        return p_->sees(p_->of(asks).queries, p_->of(answers).keys);
    }

    const problem* p_;
    ring_route route_;
    ring_passing passing_;
    std::vector<int> last_; // [stream, owner]: the hop after which nobody needs the block
};

} // namespace seqpar::plan
