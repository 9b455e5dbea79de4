#pragma once

#include <seqpar/score/full.hpp>
#include <seqpar/score/parts.hpp>
#include <seqpar/score/score.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace seqpar {

/// Both scores: a key is seen where both let it be seen, and each changes values at its own stages. Written a & b.
template <score A, score B>
class both {
public:
    both(A a, B b) : a_(std::move(a)), b_(std::move(b)) {}

    [[nodiscard]] coverage cover(lengths n, position_range q, position_range k) const {
        const coverage a = a_.cover(n, q, k), b = b_.cover(n, q, k);
        if (a == coverage::none || b == coverage::none) return coverage::none;
        return a == coverage::full && b == coverage::full ? coverage::full : coverage::partial;
    }
    [[nodiscard]] interval visible(lengths n, position i, const run& keys) const {
        return a_.visible(n, i, keys) & b_.visible(n, i, keys);
    }
    static constexpr bool forward_only = seqpar::forward_only<A> || seqpar::forward_only<B>;

    [[nodiscard]] bool lacks_derivative() const { return seqpar::lacks_derivative(a_) || seqpar::lacks_derivative(b_); }

    /// @throws refusal also if both have sinks, slopes or drop weights, or a function or a cap: which of two comes first
    /// would depend on the order in which they are written
    void check() const {
        check_score(a_);
        check_score(b_);
        const auto once = [&](bool a, bool b, const char* what) {
            if (a && b) throw refusal(detail::concat(name(), ": both have ", what, ": allowed is one of them"));
        };
        once(sinks_of(a_) > 0, sinks_of(b_) > 0, "sinks");
        once(slopes_of(a_) > 0, slopes_of(b_) > 0, "slopes");
        once(seqpar::drops(a_), seqpar::drops(b_), "dropout");
        const score_stages shared = stages_of(a_) & stages_of(b_);
        once((shared & bit(score_stage::function)) != 0, true, "a function");
        once((shared & bit(score_stage::cap)) != 0, true, "a cap");
    }
    void check(const attention_shape& of) const {
        check_score(a_, of);
        check_score(b_, of);
    }

    [[nodiscard]] score_stages stages() const { return stages_of(a_) | stages_of(b_); }
    template <class E>
    void modify(score_stage stage, const score_row& row, std::span<E> x, std::span<E> slope) const {
        seqpar::modify(a_, stage, row, x, slope);
        seqpar::modify(b_, stage, row, x, slope);
    }
    [[nodiscard]] index_t sinks() const { return std::max(sinks_of(a_), sinks_of(b_)); }
    [[nodiscard]] double logit(index_t head) const {
        return sinks_of(a_) > 0 ? logit_of(a_, head) : logit_of(b_, head);
    }
    [[nodiscard]] bool drops() const { return seqpar::drops(a_) || seqpar::drops(b_); }
    template <class E>
    void drop(const score_row& row, std::span<E> z) const {
        seqpar::drops(a_) ? seqpar::drop(a_, row, z) : seqpar::drop(b_, row, z);
    }
    [[nodiscard]] index_t slopes() const { return std::max(slopes_of(a_), slopes_of(b_)); }
    template <class E>
    [[nodiscard]] double slope_gradient(const score_row& row, std::span<const E> ds) const {
        return slopes_of(a_) > 0 ? seqpar::slope_gradient(a_, row, ds) : seqpar::slope_gradient(b_, row, ds);
    }
    [[nodiscard]] std::string name() const { return a_.name() + " & " + b_.name(); }

private:
    A a_;
    B b_;
};

/// Both scores. If one of them is a frame (documents), the other goes inside it.
template <score A, score B>
[[nodiscard]] auto operator&(A a, B b) {
    static_assert(!(frame_score<A> && frame_score<B>),
                  "documents & documents: a row is in one document; give one set of boundaries, the finer one");
    if constexpr (frame_score<A>) {
        using inner = std::remove_cvref_t<decltype(a.inner())>;
        if constexpr (std::is_same_v<inner, full>)
            return a.around(std::move(b));
        else
            return a.around(a.inner() & std::move(b));
    } else if constexpr (frame_score<B>) {
        using inner = std::remove_cvref_t<decltype(b.inner())>;
        if constexpr (std::is_same_v<inner, full>)
            return b.around(std::move(a));
        else
            return b.around(std::move(a) & b.inner());
    } else {
        return both<A, B>(std::move(a), std::move(b));
    }
}

} // namespace seqpar
