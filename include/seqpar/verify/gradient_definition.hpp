#pragma once

#include <seqpar/verify/definition.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace seqpar {

/// What the gradients of keys need of a row, and what a computation may be off by.
struct row_facts {
    double lse = 0, delta = 0, lse_error = 0, delta_error = 0;
};

/// Some gradients in double, and their bounds.
struct judged_gradient {
    std::vector<double> value, bound;
    explicit judged_gradient(index_t size = 0) : value(static_cast<std::size_t>(size)), bound(value.size()) {}
};

/// The definition of the gradients in double, for single rows and single keys of a whole sequence. With P, dP = z dout . v,
/// delta, slopes s' and the errors of score_definition and definition:
///
///     eta      = e + 4u + 2u |s - lse| + u ln(keys + 1) + |d lse|                        of P
///     |d delta| = gamma(dv) sum |dout||out| + sum |dout| (|d out| + u_store |out|) + 2u |delta|
///     |d dS|   = P ((eta + 3u) |dP - delta| + (gamma(dv) + 2u) z sum |dout||v| + |d delta|)
///     |d dX|   = |s'| |d dS| + |d s'| |dS|                                               of dX = s' dS
///     |d dq|   = |scale| sum (|d dX| + (gamma(keys) + 5u) |dX|) |k|
///     |d dk|   = |scale| sum (|d dX| + (gamma(g queries) + (5 + 2T) u) |dX|) |q|
///     |d dv|   = sum z P (eta + gamma(g queries) + (4 + 2T) u) |dout|,   and u_store of each
///                and u_factor |dX|, u_factor z P in these three where they are rounded before they are multiplied
///     |d dslope| = sum (|d dS| + 2u |dS|) |distance|,  |d dsink| = sum P_sink ((|d lse| + 4u) |delta| + |d delta|)
///
/// O(keys * head_dim) a row, O(group * queries * head_dim) a key.
template <real_element T, score S>
class gradient_definition {
    using A = accumulator_t<T>;

public:
    /// dlse: a default view where nothing flows into lse.
    gradient_definition(const context& how, const tensor_view<const T>& q, const tensor_view<const T>& k,
                        const tensor_view<const T>& v, const tensor_view<const T>& dout,
                        const tensor_view<const A>& dlse, const S& s, const judged_arithmetic& in)
        : how_(how), q_(q), k_(k), v_(v), dout_(dout), dlse_(dlse), score_(s), in_(in), rows_(how, q, k, v, s, in) {
        in_.store = in.store > in.u ? in.store : 0; // a gradient is rounded once more where storage is narrower
    }

    /// The gradient of a row of q, [head_dim], and what it adds to the gradient of its head's slope.
    struct of_row {
        row_facts facts;
        judged_gradient dq;
        double dslope = 0, dslope_error = 0;
    };
    [[nodiscard]] of_row row(index_t b, index_t i, index_t h) const {
        judged_scores s;
        const judged_row r = rows_.row(b, i, h, s);
        of_row result;
        result.dq = judged_gradient(q_.shape().dim);
        result.facts = facts_of(b, i, h, r);
        if (r.max == -std::numeric_limits<double>::infinity()) return result;
        std::vector<double> ds(s.x.size()), ds_error(s.x.size());
        for (std::size_t j = 0; j < s.x.size(); ++j) {
            if (r.weight[j] == 0) continue;
            const pair p = pair_of(b, i, h, static_cast<index_t>(j), result.facts, s, j);
            ds[j] = p.ds, ds_error[j] = p.ds_error + 2 * in_.u * std::abs(p.ds);
            for (index_t d = 0; d < q_.shape().dim; ++d) {
                const double key = static_cast<double>(*k_.at(b, static_cast<index_t>(j), h / how_.group, d));
                const std::size_t n = static_cast<std::size_t>(d);
                result.dq.value[n] += how_.scale * p.dx * key;
                result.dq.bound[n] += std::abs(how_.scale * key) *
                                      (p.dx_error + (in_.gamma(s.x.size()) + 5 * in_.u + in_.factor) * std::abs(p.dx));
            }
        }
        finish(result.dq, k_.shape().seq);
        if (slopes_of(score_) > 0) {
            const score_row row{how_.n, how_.first_batch + b, h, position(i), run{position(0), 1, k_.shape().seq}};
            result.dslope = slope_gradient(score_, row, std::span<const double>(ds));
            // |distance| has one sign, and so the sum of errors times it is that of the gradient of errors.
            result.dslope_error = in_.doubt * std::abs(slope_gradient(score_, row, std::span<const double>(ds_error)));
        }
        return result;
    }

    /// The gradients of a key and its value, [head_dim] and [head_dim of v]. facts(b, i, h) of every row.
    struct of_key {
        judged_gradient dk, dv;
    };
    template <class Facts>
    [[nodiscard]] of_key key(index_t b, index_t j, index_t g, const Facts& facts) const {
        of_key result{judged_gradient(k_.shape().dim), judged_gradient(v_.shape().dim)};
        const positions alone{run{position(j), 1, 1}};
        const score_definition<T, S> scores(how_, q_, k_.rows(j, 1), alone, score_, in_);
        const index_t queries = q_.shape().seq;
        const double sums = in_.gamma(how_.group * queries) + 2 * in_.merges * in_.u;
        judged_scores s;
        for (index_t h = g * how_.group; h < (g + 1) * how_.group; ++h)
            for (index_t i = 0; i < queries; ++i) {
                const row_facts& of = facts(b, i, h);
                if (of.lse == -std::numeric_limits<double>::infinity()) continue;
                scores.row(b, i, h, s);
                if (s.x[0] == -std::numeric_limits<double>::infinity()) continue;
                const pair p = pair_of(b, i, h, j, of, s, 0);
                for (index_t d = 0; d < k_.shape().dim; ++d) {
                    const double query = static_cast<double>(*q_.at(b, i, h, d));
                    const std::size_t n = static_cast<std::size_t>(d);
                    result.dk.value[n] += how_.scale * p.dx * query;
                    result.dk.bound[n] +=
                        std::abs(how_.scale * query) * (p.dx_error + (sums + 5 * in_.u + in_.factor) * std::abs(p.dx));
                }
                for (index_t d = 0; d < v_.shape().dim; ++d) {
                    const double x = static_cast<double>(*dout_.at(b, i, h, d));
                    const std::size_t n = static_cast<std::size_t>(d);
                    result.dv.value[n] += s.z[0] * p.weight * x;
                    result.dv.bound[n] +=
                        s.z[0] * std::abs(x) * (p.weight * (p.eta + sums + 4 * in_.u + in_.factor) + in_.tiny);
                }
            }
        finish(result.dk, how_.group * queries);
        finish(result.dv, how_.group * queries);
        return result;
    }

    /// What a row adds to the gradient of its head's sink, and the error of that.
    [[nodiscard]] std::pair<double, double> of_sink(index_t h, const row_facts& of) const {
        const double logit = logit_of(score_, h);
        if (logit == -std::numeric_limits<double>::infinity()) return {0, 0};
        const double p = std::exp(logit - of.lse);
        return {-p * of.delta, in_.doubt * p *
                                   ((of.lse_error + 6 * in_.u + in_.u * std::abs(logit - of.lse)) * std::abs(of.delta) +
                                    of.delta_error)};
    }

private:
    struct pair {
        double weight, eta, ds, ds_error, dx, dx_error;
    };

    [[nodiscard]] row_facts facts_of(index_t b, index_t i, index_t h, const judged_row& r) const {
        row_facts of;
        of.lse = r.lse, of.lse_error = r.lse_bound / in_.doubt + in_.u * std::abs(std::isinf(r.lse) ? 0 : r.lse);
        if (dlse_.shape().dim != 0) of.delta = -static_cast<double>(*dlse_.at(b, i, h));
        for (std::size_t d = 0; d < r.out.size(); ++d) {
            const double x = static_cast<double>(*dout_.at(b, i, h, static_cast<index_t>(d)));
            of.delta += x * r.out[d];
            of.delta_error += in_.gamma(r.out.size()) * std::abs(x * r.out[d]) + std::abs(x) * r.bound[d] / in_.doubt;
        }
        of.delta_error += 2 * in_.u * std::abs(of.delta);
        return of;
    }

    /// Key j, which is entry n of s.
    [[nodiscard]] pair pair_of(index_t b, index_t i, index_t h, index_t j, const row_facts& of, const judged_scores& s,
                               std::size_t n) const {
        const double u = in_.u, z = s.z[n];
        double dp = 0, dp_size = 0;
        for (index_t d = 0; d < v_.shape().dim && z != 0; ++d) {
            const double x =
                z * static_cast<double>(*dout_.at(b, i, h, d)) * static_cast<double>(*v_.at(b, j, h / how_.group, d));
            dp += x, dp_size += std::abs(x);
        }
        pair p{};
        p.weight = std::exp(s.x[n] - of.lse);
        p.eta = s.error[n] + 4 * u + 2 * u * std::abs(s.x[n] - of.lse) +
                u * std::log(static_cast<double>(how_.n.keys) + 1) + of.lse_error;
        p.ds = p.weight * (dp - of.delta);
        p.ds_error = p.weight * ((p.eta + 3 * u) * std::abs(dp - of.delta) +
                                 (in_.gamma(v_.shape().dim) + 2 * u) * dp_size + of.delta_error) +
                     in_.tiny * (1 + std::abs(dp - of.delta));
        p.dx = s.slope[n] * p.ds;
        p.dx_error = std::abs(s.slope[n]) * p.ds_error + s.slope_error[n] * std::abs(p.ds);
        return p;
    }

    /// additions: how many went into each sum.
    void finish(judged_gradient& g, index_t additions) const {
        const double smallest = in_.least * static_cast<double>(additions + 2 * in_.merges) + in_.grain;
        for (std::size_t d = 0; d < g.value.size(); ++d)
            g.bound[d] = in_.doubt * (g.bound[d] + in_.store * std::abs(g.value[d]) + smallest);
    }

    context how_;
    tensor_view<const T> q_, k_, v_, dout_;
    tensor_view<const A> dlse_;
    const S& score_;
    judged_arithmetic in_;
    definition<T, S> rows_;
};

} // namespace seqpar
