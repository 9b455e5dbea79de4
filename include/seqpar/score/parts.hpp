#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/score/score.hpp>

#include <limits>
#include <span>

namespace seqpar {

/// The optional parts of a score, asked of any score: where it lacks one, it does nothing.

template <score S>
void check_score(const S& s) {
    if constexpr (requires { s.check(); }) s.check();
}
template <score S>
void check_score(const S& s, const attention_shape& of) {
    if constexpr (requires { s.check(of); }) s.check(of);
}

template <score S>
[[nodiscard]] score_stages stages_of(const S& s) {
    if constexpr (requires { s.stages(); }) return s.stages();
    return 0;
}
template <score S, class A>
void modify(const S& s, score_stage stage, const score_row& row, std::span<A> x, std::span<A> slope) {
    if constexpr (requires { s.modify(stage, row, x, slope); })
        if ((stages_of(s) & bit(stage)) != 0) s.modify(stage, row, x, slope);
}
/// All stages, in their order.
template <score S, class A>
void modify(const S& s, const score_row& row, std::span<A> x, std::span<A> slope = {}) {
    for (const score_stage stage : {score_stage::function, score_stage::cap, score_stage::distance, score_stage::bias})
        modify(s, stage, row, x, slope);
}

template <score S>
[[nodiscard]] index_t sinks_of(const S& s) {
    if constexpr (requires { s.sinks(); }) return s.sinks();
    return 0;
}
/// -inf, if there is none.
template <score S>
[[nodiscard]] double logit_of(const S& s, index_t head) {
    if constexpr (requires { s.logit(head); })
        if (s.sinks() > 0) return s.logit(head);
    return -std::numeric_limits<double>::infinity();
}

template <score S>
[[nodiscard]] bool drops(const S& s) {
    if constexpr (requires { s.drops(); }) return s.drops();
    return false;
}
template <score S, class A>
void drop(const S& s, const score_row& row, std::span<A> z) {
    if constexpr (requires { s.drop(row, z); }) s.drop(row, z);
}

template <score S>
[[nodiscard]] index_t slopes_of(const S& s) {
    if constexpr (requires { s.slopes(); }) return s.slopes();
    return 0;
}
template <score S, class A>
[[nodiscard]] double slope_gradient(const S& s, const score_row& row, std::span<const A> ds) {
    if constexpr (requires { s.slope_gradient(row, ds); })
        if (slopes_of(s) > 0) return s.slope_gradient(row, ds);
    return 0;
}

/// A score that changes what a kernel computes with, beyond hiding keys.
template <score S>
[[nodiscard]] bool changes_values(const S& s) {
    return stages_of(s) != 0 || drops(s);
}

/// A score that gradients cannot be propagated through: it has a function without derivative.
template <class S>
inline constexpr bool forward_only = [] {
    if constexpr (requires { S::forward_only; }) return bool{S::forward_only};
    return false;
}();
template <class S>
concept differentiable_score = score<S> && !forward_only<S>;

/// The same of a score that is only known at run time.
template <score S>
[[nodiscard]] bool lacks_derivative(const S& s) {
    if constexpr (requires { s.lacks_derivative(); }) return s.lacks_derivative();
    return forward_only<S>;
}

} // namespace seqpar
