#pragma once

#include <seqpar/core/shape.hpp>
#include <seqpar/kernel/reference.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <vector>

namespace seqpar {

/// One row of attention in double precision, and by how much a computation in narrower arithmetic may differ from it.
struct judged_row {
    std::vector<double> out;   ///< [head_dim of v]
    std::vector<double> bound; ///< of |result - out|, elementwise
    double lse = 0, lse_bound = 0;
};

/// The definition of attention in double for single rows of a whole sequence, with error bounds derived from the arithmetic.
///
/// u: unit roundoff of the accumulation type, gamma(x) = sqrt(x) u for x roundings (the probabilistic constant of Higham
/// and Mary 2019, doi:10.1137/18M1226312), T: merges of partials. With scores s_j, weights P_j, and
/// sigma_j = |scale| sum |q||k_j|:
///
///     eps_j    = gamma(head_dim + 2) sigma_j + u |s_j - max| + 2u           of a score
///     alpha    = gamma(keys) + 4 T u + 4u                                   of the sums
///     |d out|  = sum_j P_j eps_j (|v_j| + |out|) + alpha sum_j P_j |v_j| + alpha |out| + u_store |out|
///     |d lse|  = sum_j P_j eps_j + alpha + 2u |lse|
///
/// A result in double is judged by a definition that is no more precise, so its bound is doubled. Products below the
/// smallest normal number may vanish: that is added. O(keys * head_dim) a row.
template <real_element T, score S>
class definition {
    using A = accumulator_t<T>;

public:
    definition(const context& how, const tensor_view<const T>& q, const tensor_view<const T>& k,
               const tensor_view<const T>& v, const S& s, int merges)
        : how_(how), q_(q), k_(k), v_(v), score_(s),
          merges_(merges), keys_{positions::whole(k.shape().seq), {0, k.shape().heads}},
          plan_(interleave(std::span(&keys_.rows, 1))), places_(reference::places(plan_, how.memory)) {}

    [[nodiscard]] judged_row row(index_t b, index_t i, index_t h) const {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        const index_t g = h / how_.group, dim = q_.shape().dim, dim_v = v_.shape().dim;
        const key_block<T> block{k_, v_, keys_};
        reference::weights<double> w(places_.size(), how_.memory);
        reference::weigh<double>(how_, q_.at(b, i, h), q_.step().dim, position(i), std::span(&block, 1), b, h, plan_,
                                 places_, score_, false, w);
        const auto& x = w.x;
        const double max = reference::highest(x);
        judged_row r{std::vector<double>(static_cast<std::size_t>(dim_v)),
                     std::vector<double>(static_cast<std::size_t>(dim_v)), -infinity, 0};
        if (max == -infinity) return r;

        double sum = 0;
        for (const double s : x) sum += s == -infinity ? 0 : std::exp(s - max);
        r.lse = max + std::log(sum);

        const double u = element_traits<A>::roundoff, store = std::is_same_v<T, A> ? u : element_traits<T>::roundoff;
        const double doubt = std::is_same_v<A, double> ? 2 : 1;
        const double alpha = std::sqrt(static_cast<double>(x.size())) * u + 4 * merges_ * u + 4 * u;
        double eps_sum = 0;
        std::vector<double> magnitude(r.out.size()), eps_v(r.out.size()), all_v(r.out.size());
        for (std::size_t j = 0; j < x.size(); ++j) {
            if (x[j] == -infinity) continue;
            const double p = std::exp(x[j] - max) / sum;
            const index_t key = static_cast<index_t>(j);
            double sigma = 0;
            for (index_t d = 0; d < dim; ++d)
                sigma += std::abs(static_cast<double>(*q_.at(b, i, h, d)) * static_cast<double>(*k_.at(b, key, g, d)));
            const double eps = std::sqrt(static_cast<double>(dim) + 2) * u * sigma * std::abs(how_.scale) +
                               u * std::abs(x[j] - max) + 2 * u;
            eps_sum += p * eps;
            for (std::size_t d = 0; d < r.out.size(); ++d) {
                const double value = static_cast<double>(*v_.at(b, key, g, static_cast<index_t>(d)));
                r.out[d] += p * value;
                magnitude[d] += p * std::abs(value);
                eps_v[d] += p * eps * std::abs(value);
                all_v[d] += std::abs(value);
            }
        }
        for (std::size_t d = 0; d < r.out.size(); ++d)
            r.bound[d] =
                doubt * (eps_v[d] + eps_sum * std::abs(r.out[d]) + alpha * (magnitude[d] + std::abs(r.out[d])) +
                         store * std::abs(r.out[d]) + static_cast<double>(std::numeric_limits<A>::min()) * all_v[d]);
        r.lse_bound = doubt * (eps_sum + alpha + 2 * u * std::abs(r.lse));
        return r;
    }

private:
    context how_;
    tensor_view<const T> q_, k_, v_;
    const S& score_;
    int merges_;
    origin keys_;
    interleaved plan_;
    std::pmr::vector<reference::key_place> places_;
};

} // namespace seqpar
