#pragma once

#include <seqpar/score/sliding_window.hpp>

#include <string>

namespace seqpar {

/// A query at position p sees the keys at positions <= p: the window that is open to the left and closed at p.
struct causal {
    alignment align = {};

    [[nodiscard]] coverage cover(lengths n, position_range q, position_range k) const noexcept {
        return window().cover(n, q, k);
    }
    [[nodiscard]] interval visible(lengths n, position i, const run& keys) const noexcept {
        return window().visible(n, i, keys);
    }
    void check() const { align.check(); }
    [[nodiscard]] std::string name() const { return "causal(" + align.name() + ')'; }

private:
    [[nodiscard]] sliding_window window() const noexcept { return {sliding_window::open, 0, align}; }
};
static_assert(score<causal>);

} // namespace seqpar
