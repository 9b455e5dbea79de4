#pragma once

#include <seqpar/score/full.hpp>

#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace seqpar {

namespace detail {
/// No derivative is given.
struct no_derivative {};
} // namespace detail

/// A user's own function of a score: f(x, batch, head, query, key) is the score that takes the place of x = scale * q . k,
/// before any cap, distance or bias. Indices are global, positions those of the whole sequence. -inf hides the key.
///
///     score_function{"relu", [](double x, index_t, index_t, index_t, index_t) { return x > 0 ? x : 0; },
///                            [](double x, index_t, index_t, index_t, index_t) { return x > 0 ? 1.0 : 0.0; }}
///
/// The second one is its derivative by x. Without it the score is for forward only: backward does not compile. `name` must
/// tell functions apart, since ranks compare it. Called once a pair, in double: for what has no stage of its own; a model of
/// the concept that works on a row at once is faster.
template <class F, class D = detail::no_derivative>
class score_function : public full {
public:
    static constexpr bool forward_only = std::is_same_v<D, detail::no_derivative>;

    score_function(std::string name, F f, D derivative = {})
        : name_(std::move(name)), f_(std::move(f)), derivative_(std::move(derivative)) {}

    [[nodiscard]] score_stages stages() const noexcept { return bit(score_stage::function); }
    template <class A>
    void modify(score_stage, const score_row& row, std::span<A> x, std::span<A> slope) const {
        const index_t i = row.n.first_query.value + row.query.value;
        index_t j = row.n.first_key.value + row.keys.first.value;
        for (std::size_t n = 0; n < x.size(); ++n, j += row.keys.stride) {
            const double before = static_cast<double>(x[n]);
            if constexpr (!forward_only)
                if (!slope.empty()) slope[n] *= static_cast<A>(derivative_(before, row.batch, row.head, i, j));
            x[n] = static_cast<A>(f_(before, row.batch, row.head, i, j));
        }
    }
    [[nodiscard]] std::string name() const { return "function(" + name_ + ')'; }

private:
    std::string name_;
    F f_;
    D derivative_;
};

} // namespace seqpar
