#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/origin.hpp>
#include <seqpar/layout/layout.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

namespace seqpar {

/// Positions of rows that only grow at their end: a run that goes on at the same step is the same run.
class growing_rows {
public:
    /// Takes in a run of positions; a single row goes on at any step.
    void append(const run& r) {
        if (r.count == 0) return;
        count_ += r.count;
        if (!runs_.empty()) {
            run& open = runs_.back();
            const index_t step = r.first - open.last();
            if (step >= 1 && (open.count == 1 || open.stride == step) && (r.count == 1 || r.stride == step)) {
                open.stride = step;
                open.count += r.count;
                return;
            }
        }
        runs_.push_back(r);
    }

    /// Whether the rows at positions >= length are the last ones.
    [[nodiscard]] bool can_cut(index_t length) const noexcept {
        bool inside = false; // of what stays, seen from the end
        for (auto r = runs_.rbegin(); r != runs_.rend(); ++r) {
            if (inside && r->last().value >= length) return false;
            inside = inside || r->first.value < length;
        }
        return true;
    }
    /// Drops the rows at positions >= length. @pre can_cut(length)
    void cut(index_t length) {
        assert(can_cut(length));
        while (!runs_.empty() && runs_.back().first.value >= length) {
            count_ -= runs_.back().count;
            runs_.pop_back();
        }
        if (runs_.empty()) return;
        run& open = runs_.back();
        const index_t stay = std::min(open.count, (length - open.first.value - 1) / open.stride + 1);
        count_ -= open.count - stay;
        open.count = stay;
    }

    [[nodiscard]] index_t count() const noexcept { return count_; }
    [[nodiscard]] positions at() const {
        positions all;
        for (const run& r : runs_) all.append(r);
        return all;
    }

private:
    std::vector<run> runs_;
    index_t count_ = 0;
};

/// Which rank holds which positions of a sequence that grows by chunks. Rows never change their rank. A pure function of
/// the chunks, so every rank knows what every other one holds, and nothing is sent.
///
/// A chunk of c tokens at positions [L, L + c) is cut into parts as the layout cuts a sequence of c. The first chunk's part r
/// goes to rank r: what prefill left on a rank is what the rank is dealt. Of later chunks the larger parts go to the ranks
/// that hold fewer rows, in turn where they hold as many.
///
/// Balance: the most rows of a rank exceed the fewest by no more than the largest part of a chunk exceeded the smallest:
/// by one row, for contiguous, zigzag and striped. (Where truncate has left more, it does not grow.)
/// Runs of a rank: one in all under striped; under others at most those of its part for each chunk (contiguous 1,
/// zigzag 2), and tokens appended one by one, or in chunks of at most P under contiguous and zigzag, share one run.
class dealt_rows {
public:
    /// Of an empty sequence over so many ranks.
    explicit dealt_rows(int size) : held_(static_cast<std::size_t>(size)) {}

    /// Tokens in all.
    [[nodiscard]] index_t length() const noexcept { return length_; }
    /// Rows of a rank, and their positions in the order of the rows.
    [[nodiscard]] index_t count(int rank) const { return held_[static_cast<std::size_t>(rank)].count(); }
    [[nodiscard]] positions of(int rank) const { return held_[static_cast<std::size_t>(rank)].at(); }

    /// A chunk that is about to be appended.
    struct chunk {
        std::vector<positions> parts; ///< by rank
        index_t tokens = 0;
        std::size_t next = 0; ///< whose turn it is after
        [[nodiscard]] const positions& of(int rank) const { return parts[static_cast<std::size_t>(rank)]; }
    };

    /// How the next `tokens` fall to the ranks. O(P log P) beside the layout's own work.
    template <layout L>
    [[nodiscard]] chunk deal(const L& how, index_t tokens) const {
        const std::size_t size = held_.size();
        std::vector<positions> parts(size);
        for (std::size_t part = 0; part < size; ++part) {
            const positions cut = how.positions(static_cast<int>(part), static_cast<int>(size), tokens);
            for (const run& r : cut.runs()) parts[part].append({r.first + length_, r.stride, r.count});
        }
        if (length_ == 0) return {std::move(parts), tokens, 0};

        std::vector<std::size_t> ranks(size), larger(size);
        for (std::size_t i = 0; i < size; ++i) ranks[i] = (turn_ + i) % size;
        std::iota(larger.begin(), larger.end(), std::size_t{0});
        std::stable_sort(ranks.begin(), ranks.end(),
                         [&](std::size_t a, std::size_t b) { return held_[a].count() < held_[b].count(); });
        std::stable_sort(larger.begin(), larger.end(),
                         [&](std::size_t a, std::size_t b) { return parts[a].size() > parts[b].size(); });
        std::size_t largest = 0; // how many parts are
        while (largest < size && parts[larger[largest]].size() == parts[larger[0]].size()) ++largest;
        chunk dealt{std::vector<positions>(size), tokens, largest == size ? turn_ : ranks[largest]};
        for (std::size_t i = 0; i < size; ++i) dealt.parts[ranks[i]] = std::move(parts[larger[i]]);
        return dealt;
    }

    /// Appends what deal() has dealt since the last change.
    void append(const chunk& dealt) {
        for (std::size_t r = 0; r < held_.size(); ++r)
            for (const run& part : dealt.parts[r].runs()) held_[r].append(part);
        turn_ = dealt.next;
        length_ += dealt.tokens;
    }

    /// Drops the tokens at positions >= length. @throws refusal if on some rank they are not the last rows, which
    /// takes a layout that does not list its rows in order.
    void truncate(index_t length) {
        if (length < 0 || length > length_)
            throw refusal(detail::concat("truncate to ", length, " tokens: the sequence has ", length_,
                                         ", allowed are 0 to that"));
        for (const growing_rows& rows : held_)
            if (!rows.can_cut(length))
                throw refusal(detail::concat("truncate to ", length,
                                             " tokens: the layout has put later tokens before "
                                             "earlier ones; nearest is 0, to start anew"));
        for (growing_rows& rows : held_) rows.cut(length);
        length_ = length;
        turn_ = 0;
    }

private:
    std::vector<growing_rows> held_;
    index_t length_ = 0;
    std::size_t turn_ = 0;
};

} // namespace seqpar
