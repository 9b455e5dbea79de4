/// @file
/// The gradients of attention written from their definition alone, with nothing of the library but its views, and what
/// a computation of them may be off by: what every backward of the library is held to.
#pragma once

#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace seqpar::testing {

/// What the computation that is judged rounds.
struct gradient_rounding {
    double u = 0;            ///< of the accumulation type
    double store = 0;        ///< of the type that the gradients are stored in, if that is not the accumulation type
    double out = 0;          ///< of the out that delta is made of
    int merges = 0;          ///< of partials, and of parts of dk and dv, on the longest way
    double tiny = 0;         ///< the smallest normal number: a P below it may be 0
    bool rows_given = false; ///< lse and delta are the exact ones, rounded once
};

/// Dense: [batch, seq, heads, head_dim], lse and delta [batch, Nq, heads].
struct naive_gradients {
    std::vector<long double> out, lse, delta, dq, dk, dv;
};

/// Bounds of dq, dk and dv, element by element.
struct gradient_bounds {
    std::vector<double> dq, dk, dv;
};

/// The gradients of sum(dout out) + sum(dlse lse), and their bounds. sees(i, j): may query i see key j. dlse: of
/// [batch, Nq, heads, 1], or a default view.
///
///     P = exp(s - lse), dP = dout . v, dS = P (dP - delta), delta = sum_d dout out - dlse
///     dq = scale dS k, dk = scale dS^T q, dv = P^T dout, the latter two summed over the query heads of a group
///
/// The bounds, with gamma(x) = sqrt(x) u, sigma = |scale| sum |q| |k|:
///
///     eps     = gamma(d + 2) sigma + u |s - max| + 4u           of a score and its exponential
///     alpha   = gamma(Nk) + 4 merges u + 4u                     of a sum over keys
///     |d out| = sum P eps (|v| + |out|) + alpha (sum P |v| + |out|)
///     |d lse| = sum P eps + alpha + 3u |lse|                    3u: it is rounded, and twice more as an exponent of 2
///     |d delta| = gamma(dv) sum |dout| |out| + sum |dout| (|d out| + u_out |out|) + 2u |delta|
///     eta     = eps + |d lse| + u |s - lse|                     of P
///     |d dS|  = P ((eta + 3u) |dP - delta| + gamma(dv) sum |dout| |v| + |d delta|)
///     |d dq|  = |scale| sum (|d dS| + (gamma(Nk) + 5u) |dS|) |k|
///     |d dk|  = |scale| sum (|d dS| + (gamma(g Nq) + (5 + 2 merges) u) |dS|) |q|
///     |d dv|  = sum P (eta + gamma(g Nq) + (2 + 2 merges) u) |dout|,       and u_store of each result
///
/// P is off by `tiny` at least. 5u: the scale is rounded, applied in two factors, and the product added. Where lse and
/// delta are given, |d lse| = 3u |lse| and |d delta| = 2u |delta|.
template <class T, class Sees>
void naive_gradient(const tensor_view<const T>& q, const tensor_view<const T>& k, const tensor_view<const T>& v,
                    const tensor_view<const T>& dout, const tensor_view<const double>& dlse, double scale,
                    const Sees& sees, const gradient_rounding& round, naive_gradients& want, gradient_bounds& bounds) {
    using real = long double;
    const extents e = q.shape();
    const index_t keys = k.shape().seq, kv_heads = k.shape().heads, dim_v = v.shape().dim, group = e.heads / kv_heads;
    const auto size = [](index_t n) { return static_cast<std::size_t>(n); };
    want = {};
    want.dq.assign(size(e.count()), 0), bounds.dq.assign(size(e.count()), 0);
    want.dk.assign(size(k.shape().count()), 0), bounds.dk.assign(size(k.shape().count()), 0);
    want.dv.assign(size(v.shape().count()), 0), bounds.dv.assign(size(v.shape().count()), 0);
    const double u = round.u;
    const auto gamma = [u](index_t n) { return std::sqrt(static_cast<double>(n)) * u; };
    const auto magnitude = [](real x) { return static_cast<double>(std::abs(x)); };
    const double size_of_scale = std::abs(scale), merges = round.merges;

    std::vector<real> s(size(keys)), p(size(keys)), dp(size(keys)), out(size(dim_v));
    std::vector<double> sigma(size(keys)), dp_size(size(keys)), out_size(size(dim_v)), out_bound(size(dim_v));
    for (index_t b = 0; b < e.batch; ++b)
        for (index_t i = 0; i < e.seq; ++i)
            for (index_t h = 0; h < e.heads; ++h) {
                const index_t g = h / group;
                real max = -std::numeric_limits<real>::infinity(), sum = 0;
                for (index_t j = 0; j < keys; ++j) {
                    const std::size_t n = size(j);
                    s[n] = -std::numeric_limits<real>::infinity(), sigma[n] = 0, dp[n] = 0, dp_size[n] = 0;
                    if (!sees(i, j)) continue;
                    s[n] = 0;
                    for (index_t d = 0; d < e.dim; ++d) {
                        const real x = scale * static_cast<real>(q(b, i, h, d)) * static_cast<real>(k(b, j, g, d));
                        s[n] += x, sigma[n] += magnitude(x);
                    }
                    for (index_t d = 0; d < dim_v; ++d) {
                        const real x = static_cast<real>(dout(b, i, h, d)) * static_cast<real>(v(b, j, g, d));
                        dp[n] += x, dp_size[n] += magnitude(x);
                    }
                    max = std::max(max, s[n]);
                }
                for (index_t j = 0; j < keys; ++j)
                    if (sees(i, j)) sum += std::exp(s[size(j)] - max);
                const bool blind = sum == 0;
                const real lse = blind ? -std::numeric_limits<real>::infinity() : max + std::log(sum);
                std::fill(out.begin(), out.end(), real{0});
                std::fill(out_size.begin(), out_size.end(), 0.0);
                double mean_eps = 0;
                for (index_t j = 0; j < keys; ++j) {
                    const std::size_t n = size(j);
                    p[n] = sees(i, j) ? std::exp(s[n] - lse) : real{0};
                    if (p[n] == 0) continue;
                    const double eps = gamma(e.dim + 2) * sigma[n] + u * magnitude(s[n] - max) + 4 * u;
                    mean_eps += magnitude(p[n]) * eps;
                    for (index_t d = 0; d < dim_v; ++d) {
                        const real x = p[n] * static_cast<real>(v(b, j, g, d));
                        out[size(d)] += x, out_size[size(d)] += magnitude(x);
                    }
                }
                const double alpha = gamma(keys) + 4 * merges * u + 4 * u;
                for (index_t d = 0; d < dim_v; ++d)
                    out_bound[size(d)] = alpha * (out_size[size(d)] + magnitude(out[size(d)]));
                for (index_t j = 0; j < keys; ++j) {
                    const std::size_t n = size(j);
                    if (p[n] == 0) continue;
                    const double eps = gamma(e.dim + 2) * sigma[n] + u * magnitude(s[n] - max) + 4 * u;
                    for (index_t d = 0; d < dim_v; ++d)
                        out_bound[size(d)] += magnitude(p[n]) * eps *
                                              (magnitude(static_cast<real>(v(b, j, g, d))) + magnitude(out[size(d)]));
                }
                real delta = dlse.shape().dim == 0 ? 0 : -static_cast<real>(dlse(b, i, h));
                double delta_bound = 0;
                for (index_t d = 0; d < dim_v; ++d) {
                    const real x = static_cast<real>(dout(b, i, h, d));
                    delta += x * out[size(d)];
                    delta_bound += gamma(dim_v) * magnitude(x * out[size(d)]) +
                                   magnitude(x) * (out_bound[size(d)] + round.out * magnitude(out[size(d)]));
                }
                double lse_bound = blind ? 0 : mean_eps + alpha + 3 * u * magnitude(lse);
                if (round.rows_given) lse_bound = blind ? 0 : 3 * u * magnitude(lse), delta_bound = 0;
                delta_bound += 2 * u * magnitude(delta);
                want.out.insert(want.out.end(), out.begin(), out.end());
                want.lse.push_back(lse);
                want.delta.push_back(delta);

                for (index_t j = 0; j < keys; ++j) {
                    const std::size_t n = size(j);
                    if (p[n] == 0) continue;
                    const real ds = p[n] * (dp[n] - delta);
                    const double weight = magnitude(p[n]);
                    const double eta = gamma(e.dim + 2) * sigma[n] + u * magnitude(s[n] - max) + 4 * u + lse_bound +
                                       u * magnitude(s[n] - lse);
                    const double ds_bound =
                        weight * ((eta + 3 * u) * magnitude(dp[n] - delta) + gamma(dim_v) * dp_size[n] + delta_bound) +
                        round.tiny * (1 + magnitude(dp[n] - delta));
                    for (index_t d = 0; d < e.dim; ++d) {
                        const std::size_t at_q = size(((b * e.seq + i) * e.heads + h) * e.dim + d);
                        const std::size_t at_k = size(((b * keys + j) * kv_heads + g) * e.dim + d);
                        const real key = static_cast<real>(k(b, j, g, d)), query = static_cast<real>(q(b, i, h, d));
                        want.dq[at_q] += scale * ds * key;
                        want.dk[at_k] += scale * ds * query;
                        bounds.dq[at_q] +=
                            size_of_scale * (ds_bound + (gamma(keys) + 5 * u) * magnitude(ds)) * magnitude(key);
                        bounds.dk[at_k] += size_of_scale *
                                           (ds_bound + (gamma(group * e.seq) + (5 + 2 * merges) * u) * magnitude(ds)) *
                                           magnitude(query);
                    }
                    for (index_t d = 0; d < dim_v; ++d) {
                        const std::size_t at_v = size(((b * keys + j) * kv_heads + g) * dim_v + d);
                        const real x = static_cast<real>(dout(b, i, h, d));
                        want.dv[at_v] += p[n] * x;
                        bounds.dv[at_v] +=
                            (weight * (eta + gamma(group * e.seq) + (2 + 2 * merges) * u) + round.tiny) * magnitude(x);
                    }
                }
            }
    for (const auto& [bound, exact] :
         {std::pair(&bounds.dq, &want.dq), std::pair(&bounds.dk, &want.dk), std::pair(&bounds.dv, &want.dv)})
        for (std::size_t n = 0; n < bound->size(); ++n) (*bound)[n] += round.store * magnitude((*exact)[n]);
}

} // namespace seqpar::testing
