#pragma once

#include <seqpar/verify/judged_scores.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace seqpar {

/// One row of attention in double precision, and by how much a computation in narrower arithmetic may differ from it.
struct judged_row {
    std::vector<double> out;   ///< [head_dim of v]
    std::vector<double> bound; ///< of |result - out|, elementwise
    double lse = 0, lse_bound = 0;

    // Of single keys, for gradients:
    double max = 0;                    ///< of the scores and the sink
    std::vector<double> weight, error; ///< [keys]: P, and what its exponent may be off by; 0 where a key is not seen
};

/// The definition of attention in double for single rows of a whole sequence, with error bounds derived from the arithmetic.
///
/// u: unit roundoff of the accumulation type, gamma(x) = sqrt(x) u, T: merges of partials. With scores s_j off by e_j
/// (score_definition), weights P_j, and z_j what dropout multiplies them by:
///
///     eps_j    = e_j + u |s_j - max| + 2u                                   of a score and its exponential
///     alpha    = gamma(keys) + 4 T u + 4u                                   of the sums
///     |d out|  = sum_j P_j eps_j (z_j |v_j| + |out|) + alpha (sum_j z_j P_j |v_j| + |out|) + u_store |out|
///                + u_p sum_j z_j P_j |v_j|, u_p: of weights, where storage is narrower
///     |d lse|  = sum_j P_j eps_j + alpha + 2u |lse|
///
/// A sink is a key with z = 0 and e = 0. A result in double is judged by a definition that is no more precise, so its bound is
/// doubled. Products below the smallest normal number may vanish, and sums of subnormal numbers are rounded to the smallest
/// one each time: that is added. O(keys * head_dim) a row.
template <real_element T, score S>
class definition {
public:
    definition(const context& how, const tensor_view<const T>& q, const tensor_view<const T>& k,
               const tensor_view<const T>& v, const S& s, int merges)
        : definition(how, q, k, v, s, judged_arithmetic::of<T>(merges)) {}
    definition(const context& how, const tensor_view<const T>& q, const tensor_view<const T>& k,
               const tensor_view<const T>& v, const S& s, const judged_arithmetic& in)
        : v_(v), group_(how.group), score_(s), in_(in), keys_(positions::whole(k.shape().seq)),
          scores_(how, q, k, keys_, s, in_) {}
    definition(const definition&) = delete; // it refers to itself
    definition& operator=(const definition&) = delete;

    [[nodiscard]] judged_row row(index_t b, index_t i, index_t h) const {
        judged_scores s;
        return row(b, i, h, s);
    }
    /// The same, and the scores.
    [[nodiscard]] judged_row row(index_t b, index_t i, index_t h, judged_scores& s) const {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        const std::size_t dim_v = static_cast<std::size_t>(v_.shape().dim);
        scores_.row(b, i, h, s);
        const double sink = logit_of(score_, h), u = in_.u;
        double max = sink; // NaN if there is one
        for (const double x : s.x)
            if (x > max || x != x) max = x;
        judged_row r;
        r.out.assign(dim_v, 0), r.bound.assign(dim_v, 0);
        r.weight.assign(s.x.size(), 0), r.error.assign(s.x.size(), 0);
        r.lse = -infinity, r.max = max;
        if (max == -infinity) return r;

        const auto power = [&](double x, double top) { return x == -infinity ? 0 : std::exp(x - top); };
        double sum = power(sink, max);
        for (const double x : s.x) sum += power(x, max);
        r.lse = max + std::log(sum);

        const double alpha = in_.gamma(s.x.size()) + 4 * in_.merges * u + 4 * u;
        double eps_sum = sink == -infinity ? 0 : power(sink, r.lse) * (u * std::abs(sink - max) + 2 * u);
        std::vector<double> magnitude(dim_v), eps_v(dim_v), all_v(dim_v);
        for (std::size_t j = 0; j < s.x.size(); ++j) {
            if (s.x[j] == -infinity) continue;
            const double p = std::exp(s.x[j] - max) / sum;
            r.weight[j] = p;
            r.error[j] = s.error[j] + u * std::abs(s.x[j] - max) + 2 * u;
            eps_sum += p * r.error[j];
            if (s.z[j] == 0) continue;
            for (std::size_t d = 0; d < dim_v; ++d) {
                const double value = s.z[j] * static_cast<double>(*v_.at(b, static_cast<index_t>(j), h / group_,
                                                                         static_cast<index_t>(d)));
                r.out[d] += p * value;
                magnitude[d] += p * std::abs(value);
                eps_v[d] += p * r.error[j] * std::abs(value);
                all_v[d] += std::abs(value);
            }
        }
        const double smallest =
            in_.least * static_cast<double>(s.x.size() + 2 * static_cast<std::size_t>(in_.merges)) + in_.grain;
        for (std::size_t d = 0; d < dim_v; ++d)
            r.bound[d] = in_.doubt *
                         (eps_v[d] + eps_sum * std::abs(r.out[d]) + alpha * (magnitude[d] + std::abs(r.out[d])) +
                          in_.store * std::abs(r.out[d]) + in_.weight * magnitude[d] + in_.tiny * all_v[d] + smallest);
        r.lse_bound = in_.doubt * (eps_sum + alpha + 2 * u * std::abs(r.lse));
        return r;
    }

private:
    tensor_view<const T> v_;
    index_t group_;
    const S& score_;
    judged_arithmetic in_;
    positions keys_;
    score_definition<T, S> scores_;
};

} // namespace seqpar
