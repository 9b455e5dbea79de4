#pragma once

#include <seqpar/core/payload.hpp>
#include <seqpar/core/timeline.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <span>
#include <utility>
#include <vector>

namespace seqpar {

/// A set of times: disjoint intervals, in order.
class time_set {
public:
    using interval = std::pair<timeline::clock::time_point, timeline::clock::time_point>;

    /// The union of the spans that `chosen` chooses. O(n log n).
    template <std::predicate<const timeline::span&> Chosen>
    time_set(std::span<const timeline::span> spans, const Chosen& chosen) {
        std::vector<interval> all;
        for (const timeline::span& s : spans)
            if (chosen(s) && s.begin < s.end) all.emplace_back(s.begin, s.end);
        std::sort(all.begin(), all.end());
        for (const interval& next : all)
            if (!in_order_.empty() && next.first <= in_order_.back().second)
                in_order_.back().second = std::max(in_order_.back().second, next.second);
            else
                in_order_.push_back(next);
    }

    [[nodiscard]] double seconds() const {
        timeline::clock::duration sum{};
        for (const interval& i : in_order_) sum += i.second - i.first;
        return std::chrono::duration<double>(sum).count();
    }

    /// The times that are in both. O(n + m).
    friend time_set operator&(const time_set& a, const time_set& b) {
        time_set both;
        for (auto i = a.in_order_.begin(), j = b.in_order_.begin(); i != a.in_order_.end() && j != b.in_order_.end();) {
            const auto begin = std::max(i->first, j->first), end = std::min(i->second, j->second);
            if (begin < end) both.in_order_.emplace_back(begin, end);
            i->second < j->second ? ++i : ++j;
        }
        return both;
    }

private:
    time_set() = default;
    std::vector<interval> in_order_;
};

/// What a rank spent its time on, in seconds. Sums of several ranks, or of several passes, mean something too.
struct time_shares {
    double whole = 0;   ///< in passes; without any, from the first begin to the last end
    double kernel = 0;  ///< of it, in the kernel
    double waiting = 0; ///< of it, in waits, posts and native collectives; the rest is packing, merging and checks
    double exchange =
        0;              ///< in which payload was under way: posted or in a native collective, and not known to be there
    double covered = 0; ///< of that, while the kernel ran

    [[nodiscard]] double kernel_share() const noexcept { return whole > 0 ? kernel / whole : 0; }
    [[nodiscard]] double waiting_share() const noexcept { return whole > 0 ? waiting / whole : 0; }
    /// Share of exchange time that the kernel covered: 1, nothing was waited for; 0, nothing overlapped, or nothing moved.
    [[nodiscard]] double overlap() const noexcept { return exchange > 0 ? covered / exchange : 0; }

    time_shares& operator+=(const time_shares& other) noexcept {
        whole += other.whole, kernel += other.kernel, waiting += other.waiting;
        exchange += other.exchange, covered += other.covered;
        return *this;
    }
};

/// The shares of one rank's timeline. O(n log n).
[[nodiscard]] inline time_shares shares_of(std::span<const timeline::span> spans) {
    using category = timeline::category;
    const auto is = [](auto... wanted) { return [=](const timeline::span& s) { return (... || (s.what == wanted)); }; };
    const time_set kernel(spans, is(category::kernel));
    const time_set idle(spans, is(category::wait, category::post, category::collective));
    const time_set moving(spans, [&](const timeline::span& s) {
        return is(category::exchange, category::collective)(s) && is_payload(s.name.text());
    });
    time_shares shares{0, kernel.seconds(), idle.seconds(), moving.seconds(), (moving & kernel).seconds()};
    if (std::any_of(spans.begin(), spans.end(), is(category::pass))) {
        const time_set passes(spans, is(category::pass));
        shares.whole = passes.seconds();
        shares.kernel = (kernel & passes).seconds();
        shares.waiting = (idle & passes).seconds();
    } else if (!spans.empty()) {
        const auto by = [](auto timeline::span::*when) {
            return [=](const timeline::span& a, const timeline::span& b) { return a.*when < b.*when; };
        };
        const auto first = std::min_element(spans.begin(), spans.end(), by(&timeline::span::begin))->begin;
        const auto last = std::max_element(spans.begin(), spans.end(), by(&timeline::span::end))->end;
        shares.whole = std::chrono::duration<double>(last - first).count();
    }
    return shares;
}

} // namespace seqpar
