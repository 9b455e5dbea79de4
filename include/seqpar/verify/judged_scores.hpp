#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/score/parts.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

namespace seqpar {

/// The arithmetic that a result is judged by: unit roundoffs, and gamma(x) = sqrt(x) u for x roundings, the probabilistic
/// constant of Higham and Mary 2019, doi:10.1137/18M1226312.
struct judged_arithmetic {
    double u = 0;      ///< of the accumulation type
    double store = 0;  ///< of the storage type
    double weight = 0; ///< of weights before they meet v, which a kernel may round to a narrower storage type
    double tiny = 0;   ///< the smallest normal number: products below it may vanish
    double doubt = 1;  ///< a result in double is judged by a definition that is no more precise: its bounds are doubled
    int merges = 1;    ///< of partials on the way to a result
    double factor = 0; ///< of weights and dS before the products of backward: no kernel of this library rounds them
    double least = 0; ///< the smallest number of the accumulation type: what a sum of smaller ones is off by, each time
    double grain = 0; ///< below it a stored number may count as 0

    template <real_element T>
    [[nodiscard]] static judged_arithmetic of(int merges) {
        using A = accumulator_t<T>;
        return {element_traits<A>::roundoff, element_traits<T>::roundoff,
                std::is_same_v<T, A> ? 0 : element_traits<T>::roundoff,
                static_cast<double>(std::numeric_limits<A>::min()), std::is_same_v<A, double> ? 2.0 : 1.0, merges, 0,
                std::numeric_limits<A>::denorm_min(),
                // Processors' bfloat16 products take subnormal numbers for 0, and give 0 for them.
                std::is_same_v<T, bfloat16> ? 2 * static_cast<double>(std::numeric_limits<A>::min()) : 0};
    }
    /// Of a program that is not this library, whose tensors are of T: it may round to T whatever it multiplies.
    template <real_element T>
    [[nodiscard]] static judged_arithmetic of_others(int merges) {
        judged_arithmetic in = of<T>(merges);
        in.factor = in.weight;
        return in;
    }
    /// The same where tensors are IEEE half precision and sums are float. A weight may vanish below the smallest subnormal.
    [[nodiscard]] static judged_arithmetic of_others_float16(int merges) {
        judged_arithmetic in = of_others<float>(merges);
        in.store = in.weight = in.factor = 0x1p-11;
        in.tiny = 0x1p-24, in.grain = 0x1p-25;
        return in;
    }
    [[nodiscard]] double gamma(index_t n) const { return std::sqrt(static_cast<double>(n)) * u; }
    [[nodiscard]] double gamma(std::size_t n) const { return gamma(static_cast<index_t>(n)); }
};

/// One row of scores in double after all that happens to them, and what a narrower computation may be off by. One entry for
/// each key.
struct judged_scores {
    std::vector<double> x;           ///< -inf: not seen
    std::vector<double> error;       ///< of x
    std::vector<double> slope;       ///< derivative of x by scale q . k
    std::vector<double> slope_error; ///< of slope
    std::vector<double> z;           ///< what dropout multiplies the weight by
};

/// The definition of scores: of rows of q with the keys k, which are at these positions.
///
/// scale q . k is off by gamma(head_dim + 2) |scale| sum |q||k|. A stage multiplies that by its slope and adds roundings of
/// its own: 3 for a cap, 2 for a distance and a bias, of the result and of the change; 1 for a function. A slope is off by
/// what the error of x makes of it, and by 6 roundings. O(keys * head_dim) a row.
template <real_element T, score S>
class score_definition {
public:
    score_definition(const context& how, const tensor_view<const T>& q, const tensor_view<const T>& k,
                     const positions& keys, const S& s, const judged_arithmetic& in)
        : how_(how), q_(q), k_(k), keys_(keys), score_(s), in_(in) {}

    void row(index_t b, index_t i, index_t h, judged_scores& to) const {
        const std::size_t keys = static_cast<std::size_t>(k_.shape().seq);
        to.x.assign(keys, -std::numeric_limits<double>::infinity());
        to.error.assign(keys, 0), to.slope_error.assign(keys, 0);
        to.slope.assign(keys, 1), to.z.assign(keys, 1);
        index_t begin = 0; // of the run among the keys
        for (const run& r : keys_.runs()) {
            const interval seen = score_.visible(how_.n, position(i), r) & interval{0, r.count};
            for (index_t j = begin + seen.first; j < begin + seen.last; ++j) multiply(b, i, h, j, to);
            if (!seen.empty() && changes_values(score_)) {
                const score_row row{how_.n, how_.first_batch + b, h, position(i),
                                    run{r[seen.first], r.stride, seen.last - seen.first}};
                change(row, static_cast<std::size_t>(begin + seen.first), static_cast<std::size_t>(begin + seen.last),
                       to);
            }
            begin += r.count;
        }
    }

private:
    void multiply(index_t b, index_t i, index_t h, index_t j, judged_scores& to) const {
        double dot = 0, size = 0;
        for (index_t d = 0; d < q_.shape().dim; ++d) {
            const double x =
                static_cast<double>(*q_.at(b, i, h, d)) * static_cast<double>(*k_.at(b, j, h / how_.group, d));
            dot += x, size += std::abs(x);
        }
        const std::size_t n = static_cast<std::size_t>(j);
        to.x[n] = how_.scale * dot;
        to.error[n] = in_.gamma(q_.shape().dim + 2) * std::abs(how_.scale) * size;
    }

    void change(const score_row& row, std::size_t begin, std::size_t end, judged_scores& to) const {
        const std::size_t count = end - begin;
        std::vector<double> after(count), bend(count), beside(count), bend_beside(count);
        for (const score_stage stage :
             {score_stage::function, score_stage::cap, score_stage::distance, score_stage::bias}) {
            if ((stages_of(score_) & bit(stage)) == 0) continue;
            const double roundings = stage == score_stage::function ? 1 : stage == score_stage::cap ? 3 : 2;
            const bool bends = stage == score_stage::function || stage == score_stage::cap;
            for (std::size_t j = 0; j < count; ++j) {
                after[j] = to.x[begin + j], beside[j] = to.x[begin + j] + to.error[begin + j];
                bend[j] = bend_beside[j] = 1;
            }
            apply(stage, row, after, bend);
            if (bends) apply(stage, row, beside, bend_beside);
            for (std::size_t j = 0; j < count; ++j) {
                const std::size_t n = begin + j;
                const double added = bends ? 0 : std::abs(after[j] - to.x[n]), slope = to.slope[n] * bend[j];
                to.slope_error[n] = std::abs(bend[j]) * to.slope_error[n];
                if (bends)
                    to.slope_error[n] += std::abs(to.slope[n]) * (6 * in_.u + std::abs(bend_beside[j] - bend[j]));
                to.error[n] = std::abs(bend[j]) * to.error[n] + roundings * in_.u * (std::abs(after[j]) + added);
                to.slope[n] = slope, to.x[n] = after[j];
            }
        }
        if (drops(score_)) drop(score_, row, std::span(to.z).subspan(begin, count));
    }

    void apply(score_stage stage, const score_row& row, std::vector<double>& x, std::vector<double>& slope) const {
        if (lacks_derivative(score_))
            modify(score_, stage, row, std::span(x), std::span<double>{});
        else
            modify(score_, stage, row, std::span(x), std::span(slope));
    }

    context how_;
    tensor_view<const T> q_, k_;
    const positions& keys_;
    const S& score_;
    judged_arithmetic in_;
};

} // namespace seqpar
