#pragma once

#include <seqpar/core/binned.hpp>
#include <seqpar/core/partial.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <numbers>

namespace seqpar {

/// The partial of a softmax whose sums do not depend on their order. Exponents of binned_sum have no bounds to speak of, so
/// there is no reference, and merging is adding:
///
///     sum   sum_j exp2(x_j)
///     acc   sum_j exp2(x_j) v_j
template <>
class partial<binned_sum> {
    using A = binned_sum;

public:
    /// Accumulators of a row beside acc.
    static constexpr index_t scalars = 1;
    /// What the finish() for merges writes as the sum of a row that has seen nothing.
    static constexpr A nothing{};

    explicit partial(const extents& shape, std::pmr::memory_resource* memory = std::pmr::get_default_resource())
        : acc_(shape, format::bshd, memory), sum_({shape.batch, shape.seq, shape.heads, 1}, format::bshd, memory) {}

    [[nodiscard]] static std::size_t bytes(const extents& shape) noexcept {
        return tensor<A>::bytes(shape) + tensor<A>::bytes({shape.batch, shape.seq, shape.heads, scalars});
    }

    [[nodiscard]] const extents& shape() const noexcept { return acc_.shape(); }
    [[nodiscard]] tensor_view<A> acc() noexcept { return acc_.view(); }
    [[nodiscard]] tensor_view<A> sum() noexcept { return sum_.view(); }

    void merge(const partial& other) { merge(other.acc_.view(), other.sum_.view()); }
    /// Takes in what the finish() below has written.
    void merge(const tensor_view<const A>& acc, const tensor_view<const A>& sum) {
        accumulate(acc, acc_.view());
        accumulate(sum, sum_.view());
    }

    void add_logit(index_t h, double score) {
        if (score == -std::numeric_limits<double>::infinity()) return;
        const weight w(score);
        for (index_t b = 0; b < shape().batch; ++b)
            for (index_t s = 0; s < shape().seq; ++s) sum_(b, s, h).add(w.value, w.exponent);
    }

    /// For a merge elsewhere, nothing is divided: that would round.
    void finish(const tensor_view<A>& acc, const tensor_view<A>& sum, executor_ref = {}) const {
        copy(acc_.view(), acc);
        copy(sum_.view(), sum);
    }

    /// out and lse, as of any partial.
    template <class T>
    void finish(const tensor_view<T>& out, const tensor_view<A>& lse, executor_ref = {}) const {
        for (index_t b = 0; b < shape().batch; ++b)
            for (index_t s = 0; s < shape().seq; ++s)
                for (index_t h = 0; h < shape().heads; ++h) {
                    const binned_sum::scaled sum = sum_(b, s, h).rounded();
                    for (index_t d = 0; d < shape().dim; ++d) {
                        const binned_sum::scaled acc = acc_(b, s, h, d).rounded();
                        // A quotient beyond 2^1024 is a value beyond it: weights are at most their sum.
                        const std::int64_t power = std::clamp<std::int64_t>(acc.exponent - sum.exponent, -4000, 4000);
                        out(b, s, h, d) =
                            sum.value == 0 ? T{} : T(std::ldexp(acc.value / sum.value, static_cast<int>(power)));
                    }
                    if (lse.shape().dim == 0) continue;
                    // As the user gets it: backward finds the same in what was kept and in what comes again.
                    const double log2_sum = std::log2(sum.value) + static_cast<double>(sum.exponent);
                    lse(b, s, h) =
                        A(static_cast<double>(static_cast<scalar_t<T>>(log2_sum * std::numbers::ln2_v<double>)));
                }
    }

    /// exp(score) as value * 2^exponent, 1 <= value < 2. A function of the score and of nothing else.
    struct weight {
        double value;
        std::int64_t exponent;

        explicit weight(double score) noexcept {
            constexpr double far = 0x1p34; // beyond, exponents are not told apart
            const double x = score * std::numbers::log2e, near = std::clamp(x, -far, far), whole = std::floor(near);
            value = std::isinf(x) ? x : std::exp2(near - whole); // NaN goes on, too
            exponent = std::isnan(x) ? 0 : static_cast<std::int64_t>(whole);
        }
    };

private:
    tensor<A> acc_, sum_;
};

} // namespace seqpar
