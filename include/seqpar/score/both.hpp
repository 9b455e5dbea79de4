#pragma once

#include <seqpar/score/full.hpp>
#include <seqpar/score/score.hpp>

#include <string>
#include <type_traits>
#include <utility>

namespace seqpar {

/// A key is seen where both scores let it be seen. Written a & b.
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
    void check() const {
        if constexpr (requires { a_.check(); }) a_.check();
        if constexpr (requires { b_.check(); }) b_.check();
    }
    void check(lengths n) const {
        if constexpr (requires { a_.check(n); }) a_.check(n);
        if constexpr (requires { b_.check(n); }) b_.check(n);
    }
    [[nodiscard]] std::string name() const { return a_.name() + " & " + b_.name(); }

private:
    A a_;
    B b_;
};

/// A key is seen where both scores let it be seen. If one of them is a frame (documents), the other goes inside it.
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
