/// @file
/// The gradients of attention written from their definition alone, with nothing of the library but its views, and what
/// a computation of them may be off by: what every backward of the library is held to.
#pragma once

#include "naive_score.hpp"

#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

namespace seqpar::testing {

/// What the computation that is judged rounds.
struct gradient_rounding {
    double u = 0;            ///< of the accumulation type
    double store = 0;        ///< of the type that the gradients are stored in, if that is not the accumulation type
    double out = 0;          ///< of the out that delta is made of
    double weight = 0;       ///< of the weights that out was made of, where the kernel may round them
    int merges = 0;          ///< of partials, and of parts of dk and dv, on the longest way
    double tiny = 0;         ///< the smallest normal number: a P below it may be 0
    bool rows_given = false; ///< lse and delta are the exact ones, rounded once
};

/// Dense: [batch, seq, heads, head_dim], lse and delta [batch, Nq, heads].
struct naive_gradients {
    std::vector<long double> out, lse, delta, dq, dk, dv;
    std::vector<long double> dsinks, dslopes; ///< [heads], or empty
};

/// Bounds of the gradients, element by element.
struct gradient_bounds {
    std::vector<double> out, lse, dq, dk, dv, dsinks, dslopes;
};

/// The gradients of sum(dout out) + sum(dlse lse), and their bounds. dlse: of [batch, Nq, heads, 1], or a default view.
///
///     s = score(scale q k), P = exp(s - lse), dP = z dout . v, dS = P (dP - delta), delta = sum_d dout out - dlse
///     dq = scale s' dS k, dk = scale (s' dS)^T q, dv = (z P)^T dout, the latter two summed over the query heads of a group
///     dsink = - sum_i exp(sink - lse) delta, dslope = - sum dS |distance|
///
/// The bounds, with gamma(x) = sqrt(x) u, sigma = |scale| sum |q| |k|:
///
///     eps     = what naive_score makes of gamma(d + 2) sigma, + u |s - max| + 4u      of a score and its exponential
///     alpha   = gamma(Nk) + 4 merges u + 4u                     of a sum over keys
///     |d out| = sum P eps (z |v| + |out|) + alpha (sum z P |v| + |out|) + u_weight sum z P |v|
///     |d lse| = sum P eps + alpha + 3u |lse|                    3u: it is rounded, and twice more as an exponent of 2
///     |d delta| = gamma(dv) sum |dout| |out| + sum |dout| (|d out| + u_out |out|) + 2u |delta|
///     eta     = eps + |d lse| + u |s - lse|                     of P
///     |d dS|  = P ((eta + 3u) |dP - delta| + (gamma(dv) + 2u) z sum |dout| |v| + |d delta|)
///     |d dX|  = |s'| |d dS| + |d s'| |dS|                       of dX = s' dS
///     |d dq|  = |scale| sum (|d dX| + (gamma(Nk) + 5u) |dX|) |k|
///     |d dk|  = |scale| sum (|d dX| + (gamma(g Nq) + (5 + 2 merges) u) |dX|) |q|
///     |d dv|  = sum z P (eta + gamma(g Nq) + (4 + 2 merges) u) |dout|,       and u_store of each result
///     |d dslope| = sum (|d dS| + 2u |dS|) |distance|,  |d dsink| = sum exp(sink - lse) ((|d lse| + 4u) |delta| + |d delta|),
///                  both summed in double and rounded once
///
/// P is off by `tiny` at least. 5u: the scale is rounded, applied in two factors, and the product added. A sink has eps =
/// u |sink - max| + 4u. Where lse and delta are given, |d lse| = 3u |lse| and |d delta| = 2u |delta|.
template <class T>
void naive_gradient(const tensor_view<const T>& q, const tensor_view<const T>& k, const tensor_view<const T>& v,
                    const tensor_view<const T>& dout, const tensor_view<const double>& dlse, double scale,
                    const naive_score& score, const gradient_rounding& round, naive_gradients& want,
                    gradient_bounds& bounds) {
    using real = long double;
    const extents e = q.shape();
    const index_t keys = k.shape().seq, kv_heads = k.shape().heads, dim_v = v.shape().dim, group = e.heads / kv_heads;
    const auto size = [](index_t n) { return static_cast<std::size_t>(n); };
    want = {};
    want.dq.assign(size(e.count()), 0), bounds.dq.assign(size(e.count()), 0);
    want.dk.assign(size(k.shape().count()), 0), bounds.dk.assign(size(k.shape().count()), 0);
    want.dv.assign(size(v.shape().count()), 0), bounds.dv.assign(size(v.shape().count()), 0);
    want.dsinks.assign(score.sinks.size(), 0), bounds.dsinks.assign(score.sinks.size(), 0);
    want.dslopes.assign(score.slopes.size(), 0), bounds.dslopes.assign(score.slopes.size(), 0);
    bounds.out.clear(), bounds.lse.clear();
    constexpr real infinity = std::numeric_limits<real>::infinity();
    const double u = round.u;
    const auto gamma = [u](index_t n) { return std::sqrt(static_cast<double>(n)) * u; };
    const auto magnitude = [](real x) { return static_cast<double>(std::abs(x)); };
    const double size_of_scale = std::abs(scale), merges = round.merges;

    std::vector<real> p(size(keys)), dp(size(keys)), out(size(dim_v));
    std::vector<naive_pair> s(size(keys));
    std::vector<double> z(size(keys)), dp_size(size(keys)), out_size(size(dim_v)), out_bound(size(dim_v));
    for (index_t b = 0; b < e.batch; ++b)
        for (index_t i = 0; i < e.seq; ++i)
            for (index_t h = 0; h < e.heads; ++h) {
                const index_t g = h / group;
                const real sink = score.sink(h);
                real max = sink, sum = 0;
                for (index_t j = 0; j < keys; ++j) {
                    const std::size_t n = size(j);
                    dp[n] = 0, dp_size[n] = 0;
                    real dot = 0;
                    double sigma = 0;
                    for (index_t d = 0; d < e.dim; ++d) {
                        const real x = scale * static_cast<real>(q(b, i, h, d)) * static_cast<real>(k(b, j, g, d));
                        dot += x, sigma += magnitude(x);
                    }
                    s[n] = score.change(b, h, i, j, dot, gamma(e.dim + 2) * sigma, u);
                    if (s[n].value == -infinity) continue;
                    z[n] = score.factor(b, h, i, j);
                    for (index_t d = 0; d < dim_v; ++d) {
                        const real x = z[n] * static_cast<real>(dout(b, i, h, d)) * static_cast<real>(v(b, j, g, d));
                        dp[n] += x, dp_size[n] += magnitude(x);
                    }
                    max = std::max(max, s[n].value);
                }
                const auto power = [](real x, real top) { return x == -infinity ? real{0} : std::exp(x - top); };
                const auto eps_of = [&](const naive_pair& x) { return x.error + u * magnitude(x.value - max) + 4 * u; };
                for (const naive_pair& x : s) sum += power(x.value, max);
                sum += power(sink, max);
                const bool blind = sum == 0;
                const real lse = blind ? -infinity : max + std::log(sum);
                std::fill(out.begin(), out.end(), real{0});
                std::fill(out_size.begin(), out_size.end(), 0.0);
                const real of_sink = power(sink, lse);
                double mean_eps = of_sink == 0 ? 0 : magnitude(of_sink) * (u * magnitude(sink - max) + 4 * u);
                for (index_t j = 0; j < keys; ++j) {
                    const std::size_t n = size(j);
                    p[n] = power(s[n].value, lse);
                    if (p[n] == 0) continue;
                    mean_eps += magnitude(p[n]) * eps_of(s[n]);
                    for (index_t d = 0; d < dim_v; ++d) {
                        const real x = z[n] * p[n] * static_cast<real>(v(b, j, g, d));
                        out[size(d)] += x, out_size[size(d)] += magnitude(x);
                    }
                }
                const double alpha = gamma(keys) + 4 * merges * u + 4 * u;
                for (index_t d = 0; d < dim_v; ++d)
                    out_bound[size(d)] =
                        alpha * (out_size[size(d)] + magnitude(out[size(d)])) + round.weight * out_size[size(d)];
                for (index_t j = 0; j < keys; ++j) {
                    const std::size_t n = size(j);
                    if (p[n] == 0) continue;
                    for (index_t d = 0; d < dim_v; ++d)
                        out_bound[size(d)] +=
                            magnitude(p[n]) * eps_of(s[n]) *
                            (z[n] * magnitude(static_cast<real>(v(b, j, g, d))) + magnitude(out[size(d)]));
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
                for (index_t d = 0; d < dim_v; ++d)
                    bounds.out.push_back(out_bound[size(d)] + round.out * magnitude(out[size(d)]) + round.tiny);
                bounds.lse.push_back(lse_bound);
                want.delta.push_back(delta);

                if (of_sink != 0) {
                    want.dsinks[size(h)] -= of_sink * delta;
                    bounds.dsinks[size(h)] +=
                        magnitude(of_sink) *
                        ((lse_bound + 4 * u + u * magnitude(sink - lse)) * magnitude(delta) + delta_bound);
                }
                for (index_t j = 0; j < keys; ++j) {
                    const std::size_t n = size(j);
                    if (p[n] == 0) continue;
                    const real ds = p[n] * (dp[n] - delta);
                    const double weight = magnitude(p[n]);
                    const double eta = eps_of(s[n]) + lse_bound + u * magnitude(s[n].value - lse);
                    const double ds_bound = weight * ((eta + 3 * u) * magnitude(dp[n] - delta) +
                                                      (gamma(dim_v) + 2 * u) * dp_size[n] + delta_bound) +
                                            round.tiny * (1 + magnitude(dp[n] - delta));
                    if (!score.slopes.empty()) {
                        want.dslopes[size(h)] -= ds * score.distance(i, j);
                        bounds.dslopes[size(h)] += (ds_bound + 2 * u * magnitude(ds)) * score.distance(i, j);
                    }
                    const real dx = s[n].slope * ds;
                    const double dx_bound = magnitude(s[n].slope) * ds_bound + s[n].slope_error * magnitude(ds);
                    for (index_t d = 0; d < e.dim; ++d) {
                        const std::size_t at_q = size(((b * e.seq + i) * e.heads + h) * e.dim + d);
                        const std::size_t at_k = size(((b * keys + j) * kv_heads + g) * e.dim + d);
                        const real key = static_cast<real>(k(b, j, g, d)), query = static_cast<real>(q(b, i, h, d));
                        want.dq[at_q] += scale * dx * key;
                        want.dk[at_k] += scale * dx * query;
                        bounds.dq[at_q] +=
                            size_of_scale * (dx_bound + (gamma(keys) + 5 * u) * magnitude(dx)) * magnitude(key);
                        bounds.dk[at_k] += size_of_scale *
                                           (dx_bound + (gamma(group * e.seq) + (5 + 2 * merges) * u) * magnitude(dx)) *
                                           magnitude(query);
                    }
                    for (index_t d = 0; d < dim_v; ++d) {
                        const std::size_t at_v = size(((b * keys + j) * kv_heads + g) * dim_v + d);
                        const real x = static_cast<real>(dout(b, i, h, d));
                        want.dv[at_v] += z[n] * p[n] * x;
                        bounds.dv[at_v] += z[n] *
                                           (weight * (eta + gamma(group * e.seq) + (4 + 2 * merges) * u) + round.tiny) *
                                           magnitude(x);
                    }
                }
            }
    for (const auto& [bound, exact] :
         {std::pair(&bounds.dq, &want.dq), std::pair(&bounds.dk, &want.dk), std::pair(&bounds.dv, &want.dv)})
        for (std::size_t n = 0; n < bound->size(); ++n) (*bound)[n] += round.store * magnitude((*exact)[n]);
    for (std::size_t h = 0; h < want.dsinks.size(); ++h) bounds.dsinks[h] += 2 * u * magnitude(want.dsinks[h]);
    for (std::size_t h = 0; h < want.dslopes.size(); ++h) bounds.dslopes[h] += 2 * u * magnitude(want.dslopes[h]);
}

/// The same for a mask alone. sees(i, j): may query i see key j.
template <class T, class Sees>
    requires std::is_invocable_r_v<bool, const Sees&, index_t, index_t>
void naive_gradient(const tensor_view<const T>& q, const tensor_view<const T>& k, const tensor_view<const T>& v,
                    const tensor_view<const T>& dout, const tensor_view<const double>& dlse, double scale,
                    const Sees& sees, const gradient_rounding& round, naive_gradients& want, gradient_bounds& bounds) {
    naive_gradient<T>(q, k, v, dout, dlse, scale, naive_score{sees}, round, want, bounds);
}

} // namespace seqpar::testing
