#pragma once

#include <seqpar/score/score.hpp>

#include <string>
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
    [[nodiscard]] std::string name() const { return a_.name() + " & " + b_.name(); }

private:
    A a_;
    B b_;
};

template <score A, score B>
[[nodiscard]] both<A, B> operator&(A a, B b) {
    return {std::move(a), std::move(b)};
}

} // namespace seqpar
