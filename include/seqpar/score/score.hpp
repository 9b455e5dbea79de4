#pragma once

#include <seqpar/core/origin.hpp>

#include <algorithm>
#include <concepts>
#include <string>

namespace seqpar {

/// The sequence that positions count in: how many rows it has and, where it is a part of a longer one (a document), the
/// positions of its first rows there. What is indexed by the rows of the whole (a bias, a random number) adds them.
struct lengths {
    index_t queries = 0, keys = 0;
    position first_query{0}, first_key{0};
    friend constexpr bool operator==(const lengths&, const lengths&) = default;
};

/// What a tile of scores, rows by keys, can see.
enum class coverage {
    none,    ///< no row of the tile sees any key of it: the tile is skipped
    partial, ///< some do, or it would cost too much to know
    full     ///< every row sees every key: the tile is computed without a mask
};

/// Items [first, last) of a run. Empty when last <= first.
struct interval {
    index_t first = 0, last = 0;
    [[nodiscard]] constexpr bool empty() const noexcept { return last <= first; }
};

[[nodiscard]] constexpr interval operator&(interval a, interval b) noexcept {
    return {std::max(a.first, b.first), std::min(a.last, b.last)};
}

/// When a score changes values. Scores that are composed do so in this order, whatever the order they are written in:
///
///     x = scale * q . k      function: f(x)      cap: c tanh(x / c)      distance: - slope |p_q - p_k|      bias: + b_qk
///
/// and the masks hide keys after all of them.
enum class score_stage : unsigned { function = 1, cap = 2, distance = 4, bias = 8 };

/// A set of stages, as a union of bits.
using score_stages = unsigned;
[[nodiscard]] constexpr score_stages bit(score_stage s) noexcept { return static_cast<score_stages>(s); }

/// A row of scores: one query with the keys of a run. All indices are global, positions those of the frame n.
struct score_row {
    lengths n;
    index_t batch = 0, head = 0;
    position query;
    run keys;
};

/// What happens to the score of a query and a key. A function of global coordinates only, so it is the same whatever rank,
/// layout or strategy asks.
///
/// For a model S with a value s, a sequence of n = lengths{Nq, Nk}:
///   1. s.cover(n, q, k), closed ranges of positions, none empty: what a tile of these rows and keys can see. `none` and
///      `full` are promises for every pair in the ranges; `partial` is always allowed.
///   2. s.visible(n, i, keys): which keys of a run the query at position i sees, as an interval of indices into the run.
///   3. s.name() is a std::string that is equal for equal scores and unequal for others.
///
/// Optional, each by itself:
///   4. s.check() throws `refusal` if the parameters make no sense; s.check(attention_shape) if they do not fit an
///      attention.
///   5. s.stages(): the stages at which it changes values; and for each of them s.modify(stage, row, x, slope), for x and
///      slope std::span<float> or std::span<double>: x[j], the score of key j of the row so far, becomes what it is after
///      the stage; -inf hides the key. slope is empty, or each slope[j] is multiplied by the derivative of the new x[j] by
///      the old one. Elementwise: x[j] depends on no other key, nor on which keys are asked together.
///      `static constexpr bool forward_only = true` says that slope is not supported.
///   6. s.sinks(): for how many heads it has a sink, 0 for none; s.logit(head): a logit that joins the head's softmax with a
///      value row of zeros. It is counted once a row, whatever the strategy.
///   7. s.drops(): whether it drops weights; s.drop(row, z) sets each z[j] to what the weight P_ij is multiplied by before
///      it meets v_j: 0 or 1 / (1 - rate). The sum of the softmax is not changed.
///   8. s.slopes(): for how many heads it has a slope whose gradient is wanted, 0 for none; s.slope_gradient(row, ds): the
///      sum over the keys of ds[j] times the derivative of x[j] by the head's slope. ds is the gradient at the end of the
///      stage `distance`.
///
/// A minimal model, in which a query sees only the key at its own position:
///
///     struct self_only {
///         seqpar::coverage cover(seqpar::lengths, seqpar::position_range, seqpar::position_range) const {
///             return seqpar::coverage::partial;
///         }
///         seqpar::interval visible(seqpar::lengths, seqpar::position i, const seqpar::run& keys) const {
///             return seqpar::between(keys, i, i);
///         }
///         std::string name() const { return "self_only"; }
///     };
template <class S>
concept score = requires(const S& s, lengths n, position_range r, position i, const run& keys) {
    { s.cover(n, r, r) } -> std::same_as<coverage>;
    { s.visible(n, i, keys) } -> std::same_as<interval>;
    { s.name() } -> std::convertible_to<std::string>;
};

/// A score that decides what positions others count in: s.inner() is the score that it asks in its own frame, and
/// s.around(other) is s with another one. What it is composed with goes inside.
template <class S>
concept frame_score = score<S> && requires(const S& s) {
    s.inner();
    { s.around(s.inner()) } -> std::same_as<S>;
};

/// The items of a run whose positions lie in the closed range [first, last].
[[nodiscard]] constexpr interval between(const run& keys, position first, position last) noexcept {
    const auto at_or_after = [&](index_t distance) { // items that lie `distance` or further from the run's first
        return distance <= 0 ? index_t{0} : std::min(keys.count, (distance - 1) / keys.stride + 1);
    };
    return {at_or_after(first - keys.first), at_or_after(last - keys.first + 1)};
}

} // namespace seqpar
