#pragma once

#include <seqpar/attention.hpp>
#include <seqpar/kernel/delta.hpp>
#include <seqpar/strategy/passes.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/verify/distance.hpp>
#include <seqpar/verify/gradient_definition.hpp>
#include <seqpar/verify/gradient_report.hpp>
#include <seqpar/verify/judge.hpp>
#include <seqpar/verify/sample.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace seqpar {

/// Judges gradients of one attention over a whole sequence. Serial's and the definition's are computed once, whatever number
/// of results is judged. Views must outlive it.
///
/// All rows and keys are compared with the definition where options.budget is enough, seeded ones otherwise. The gradient of
/// a key needs lse and delta of every row: where not all rows are computed in double they are taken from serial, and its
/// error, as large as that of any judged row, is added to the bound.
template <real_element T, class Kernel, score S>
class gradient_judge {
    using A = accumulator_t<T>;

public:
    /// q, dout: [batch, Nq, heads, ...], k, v: [batch, Nk, kv_heads, ...]; dlse: [batch, Nq, heads, 1], or a default view;
    /// serial_out, serial_lse: what serial computes of q, k, v, as judge::out() and lse() have it.
    gradient_judge(const Kernel& kernel, const S& s, const context& how, const tensor_view<const T>& q,
                   const tensor_view<const T>& k, const tensor_view<const T>& v, const tensor_view<const T>& dout,
                   const tensor_view<const A>& dlse, const tensor_view<const T>& serial_out,
                   const tensor_view<const A>& serial_lse, const judging& options)
        : dq_(q.shape(), format::bshd, how.memory), dk_(k.shape(), format::bshd, how.memory),
          dv_(v.shape(), format::bshd, how.memory) {
        tensor<A> delta(serial_lse.shape(), format::bshd, how.memory);
        row_delta<T>(serial_out, dout, dlse, delta.view());
        compute_serial(kernel, s, how, q, k, v, dout, serial_lse, std::as_const(delta).view());
        for (index_t b = 0; b < q.shape().batch; ++b)
            for (index_t i = 0; i < q.shape().seq; ++i)
                for (index_t h = 0; h < q.shape().heads; ++h)
                    if (const double x = std::abs(static_cast<double>(*serial_lse.at(b, i, h))); std::isfinite(x))
                        largest_lse_ = std::max(largest_lse_, x);

        context quiet = how;
        quiet.progress = nullptr;
        const gradient_definition<T, S> define(quiet, q, k, v, dout, dlse, s, options.arithmetic_of<T>());
        const double per_pair = static_cast<double>(4 * (q.shape().dim + v.shape().dim)),
                     per_row = per_pair * static_cast<double>(k.shape().seq) + 1,
                     per_key = per_pair * static_cast<double>(q.shape().seq * how.group) + 1;
        const auto count = [](const extents& e) { return static_cast<double>(e.batch * e.seq * e.heads); };
        const bool all = options.rows > 0
                             ? static_cast<double>(options.rows) >= std::max(count(q.shape()), count(k.shape()))
                             : count(q.shape()) * per_row + count(k.shape()) * per_key <= options.budget;
        rows_ = sample_rows(q.shape(), all ? count(q.shape()) : options.affordable(2 * per_row), options.seed);
        keys_ = sample_rows(k.shape(), all ? count(k.shape()) : options.affordable(2 * per_key), options.seed + 1);

        std::vector<typename gradient_definition<T, S>::of_row> of_rows(rows_.size());
        how.executor.run(static_cast<index_t>(rows_.size()), [&](index_t n, int) {
            const sampled_row& at = rows_[static_cast<std::size_t>(n)];
            of_rows[static_cast<std::size_t>(n)] = define.row(at.b, at.i, at.h);
        });
        const index_t heads = q.shape().heads;
        const auto place = [&](index_t b, index_t i, index_t h) {
            return static_cast<std::size_t>((b * q.shape().seq + i) * heads + h);
        };
        std::vector<row_facts> facts(static_cast<std::size_t>(count(q.shape())));
        if (all) {
            for (std::size_t n = 0; n < rows_.size(); ++n)
                facts[place(rows_[n].b, rows_[n].i, rows_[n].h)] = of_rows[n].facts;
        } else {
            row_facts worst; // of what is compared and of what it is compared with
            for (const auto& row : of_rows) {
                worst.lse_error = std::max(worst.lse_error, 2 * row.facts.lse_error);
                worst.delta_error = std::max(worst.delta_error, 2 * row.facts.delta_error);
            }
            for (index_t b = 0; b < q.shape().batch; ++b)
                for (index_t i = 0; i < q.shape().seq; ++i)
                    for (index_t h = 0; h < heads; ++h)
                        facts[place(b, i, h)] = {static_cast<double>(*serial_lse.at(b, i, h)),
                                                 static_cast<double>(delta(b, i, h)), worst.lse_error,
                                                 worst.delta_error};
        }
        truth_[0].resize(rows_.size()), truth_[1].resize(keys_.size()), truth_[2].resize(keys_.size());
        how.executor.run(static_cast<index_t>(keys_.size()), [&](index_t n, int) {
            const sampled_row& at = keys_[static_cast<std::size_t>(n)];
            auto found = define.key(at.b, at.i, at.h, [&](index_t b, index_t i, index_t h) -> const row_facts& {
                return facts[place(b, i, h)];
            });
            truth_[1][static_cast<std::size_t>(n)] = std::move(found.dk);
            truth_[2][static_cast<std::size_t>(n)] = std::move(found.dv);
        });
        for (std::size_t n = 0; n < rows_.size(); ++n) truth_[0][n] = std::move(of_rows[n].dq);
        sum_heads(s, define, of_rows, facts, q.shape(), all);
    }

    /// Judges gradients of those shapes; dsinks and dslopes: [heads], or empty.
    ///
    /// Each passes if (1) every judged element is within its bound of the definition, (2) the largest error is at most twice
    /// serial's, with 17 u of the largest element on top (4 |lse| u of it, if that is more), and (3) every element is as near
    /// to serial's as the judged bounds let two results be.
    [[nodiscard]] gradient_report compare(const tensor_view<const T>& dq, const tensor_view<const T>& dk,
                                          const tensor_view<const T>& dv, std::span<const A> dsinks,
                                          std::span<const A> dslopes) const {
        gradient_report r;
        r.of[0] = judged(dq, dq_.view(), rows_, truth_[0]);
        r.of[1] = judged(dk, dk_.view(), keys_, truth_[1]);
        r.of[2] = judged(dv, dv_.view(), keys_, truth_[2]);
        r.of[3] = judged_heads(dsinks, dsinks_, sinks_, true);
        r.of[4] = judged_heads(dslopes, dslopes_, slopes_, slopes_judged_);
        r.passed = std::all_of(r.of.begin(), r.of.end(), [](const gradient_verdict& v) { return v.passed; });
        return r;
    }

    /// What dq, dk and dv should be, for n = 0, 1, 2. A view of what is here.
    [[nodiscard]] expectation<T> expected(std::size_t n) const {
        const tensor<T>& serial = n == 0 ? dq_ : n == 1 ? dk_ : dv_;
        expectation<T> all{serial.view(), n == 0 ? rows_ : keys_, {}, {}, 0};
        double largest = 0, widest = 0;
        for (const judged_gradient& g : truth_[n]) {
            all.values.push_back(g.value), all.bounds.push_back(g.bound);
            for (const double x : g.value)
                if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
            for (const double x : g.bound)
                if (std::isfinite(x)) widest = std::max(widest, x);
        }
        all.allowed_from_serial = allowed_from_serial(widest, largest);
        return all;
    }
    /// What dsinks, or dslopes, should be: [1, 1, heads, 1]. Where slopes have not been judged, serial's.
    [[nodiscard]] expectation<double> expected_of_heads(bool sinks) const {
        const std::vector<double>& serial = sinks ? dsinks_ : dslopes_;
        const judged_gradient& truth = sinks ? sinks_ : slopes_;
        const bool judged = sinks || slopes_judged_;
        const index_t heads = static_cast<index_t>(serial.size());
        expectation<double> all{{serial.data(), {1, 1, heads, 1}}, {}, {}, {}, 0};
        for (index_t h = 0; h < heads; ++h) {
            const std::size_t n = static_cast<std::size_t>(h);
            all.allowed_from_serial = std::max(all.allowed_from_serial, 4 * truth.bound[n]);
            if (!judged) continue;
            all.at.push_back({0, 0, h});
            all.values.push_back({truth.value[n]}), all.bounds.push_back({truth.bound[n]});
        }
        return all;
    }

private:
    /// Rows that were not judged may have larger bounds than those that were: see judge.
    [[nodiscard]] static double allowed_from_serial(double widest, double largest) {
        return 4 * std::max(widest, element_traits<T>::roundoff * largest);
    }

    void compute_serial(const Kernel& kernel, const S& s, context how, const tensor_view<const T>& q,
                        const tensor_view<const T>& k, const tensor_view<const T>& v, const tensor_view<const T>& dout,
                        const tensor_view<const A>& lse, const tensor_view<const A>& delta) {
        const placement whole{{positions::whole(q.shape().seq), {0, q.shape().heads}},
                              {positions::whole(k.shape().seq), {0, k.shape().heads}}};
        std::vector<binned_sum> dsinks(static_cast<std::size_t>(sinks_of(s))),
            dslopes(static_cast<std::size_t>(slopes_of(s)));
        how.slope_gradients = dslopes;
        serial::bound<self_communicator> bound;
        detail::passes<kernel_element_t<Kernel, T>, T>::backward(
            bound, local_attention<Kernel, S>{kernel, s, how}, std::span(&whole, 1), operands<T>{q, k, v, {}, {}},
            row_gradients<T>{dout, lse, delta}, false, detail::gradient_views<T>{dq_.view(), dk_.view(), dv_.view()});
        detail::add_sink_gradients<A>(s, lse, delta, std::span(dsinks));
        for (const binned_sum& x : dsinks) dsinks_.push_back(static_cast<double>(x));
        for (const binned_sum& x : dslopes) dslopes_.push_back(static_cast<double>(x));
    }

    /// The gradients of sinks from all rows' facts; those of slopes where all rows have been computed.
    template <class Rows>
    void sum_heads(const S& s, const gradient_definition<T, S>& define, const Rows& of_rows,
                   const std::vector<row_facts>& facts, const extents& q, bool all) {
        const double u = 4 * element_traits<A>::roundoff;
        sinks_ = judged_gradient(sinks_of(s)), slopes_ = judged_gradient(slopes_of(s));
        slopes_judged_ = all;
        for (std::size_t n = 0; n < facts.size() && !sinks_.value.empty(); ++n) {
            const std::size_t h = n % static_cast<std::size_t>(q.heads);
            const auto [value, error] = define.of_sink(static_cast<index_t>(h), facts[n]);
            sinks_.value[h] += value, sinks_.bound[h] += error;
        }
        for (std::size_t n = 0; n < rows_.size() && !slopes_.value.empty(); ++n) {
            const std::size_t h = static_cast<std::size_t>(rows_[n].h);
            slopes_.value[h] += of_rows[n].dslope, slopes_.bound[h] += of_rows[n].dslope_error;
        }
        // Of a sample: what all rows may be off by, for the comparison with serial.
        const double share = rows_.empty() ? 1 : static_cast<double>(facts.size()) / static_cast<double>(rows_.size());
        for (double& bound : slopes_.bound) bound *= all ? 1 : 4 * share;
        for (std::size_t h = 0; h < sinks_.value.size(); ++h) sinks_.bound[h] += u * std::abs(sinks_.value[h]);
        for (std::size_t h = 0; h < slopes_.value.size(); ++h)
            slopes_.bound[h] += u * std::abs(all ? slopes_.value[h] : dslopes_[h]);
    }

    [[nodiscard]] gradient_verdict judged(const tensor_view<const T>& have, const tensor_view<const T>& serial_has,
                                          const std::vector<sampled_row>& at,
                                          const std::vector<judged_gradient>& truth) const {
        gradient_verdict v;
        const extents& e = have.shape();
        v.elements = e.count(), v.judged = static_cast<index_t>(at.size()) * e.dim;
        double largest = 0, widest = 0;
        for (std::size_t n = 0; n < at.size(); ++n)
            for (index_t d = 0; d < e.dim; ++d) {
                const auto [b, i, h] = at[n];
                const double want = truth[n].value[static_cast<std::size_t>(d)],
                             bound = truth[n].bound[static_cast<std::size_t>(d)];
                const double error = distance_from(static_cast<double>(*have.at(b, i, h, d)), want);
                v.serial_error =
                    std::max(v.serial_error, distance_from(static_cast<double>(*serial_has.at(b, i, h, d)), want));
                if (std::isfinite(want)) largest = std::max(largest, std::abs(want));
                if (std::isfinite(bound)) widest = std::max(widest, bound);
                v.max_abs_error = std::max(v.max_abs_error, error);
                if (const double ratio = ratio_of(error, bound); ratio > v.worst_ratio || (n == 0 && d == 0)) {
                    v.worst_ratio = ratio, v.bound = bound;
                    v.worst = {b, i, h, d};
                }
            }
        v.allowed_from_serial = allowed_from_serial(widest, largest);
        double excess = -1;
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                for (index_t h = 0; h < e.heads; ++h)
                    for (index_t d = 0; d < e.dim; ++d) {
                        const double off = distance_from(static_cast<double>(*have.at(b, i, h, d)),
                                                         static_cast<double>(*serial_has.at(b, i, h, d)));
                        if (off <= excess) continue;
                        excess = v.max_from_serial = off;
                        v.worst_from_serial = {b, i, h, d};
                    }
        // An lse that is one rounding off turns all weights of its row by u |lse|, and which way it falls is chance.
        const double floor = std::max(17.0, 4 * largest_lse_) * element_traits<A>::roundoff * std::max(1.0, largest);
        v.passed = v.worst_ratio <= 1 && v.max_abs_error <= 2 * v.serial_error + floor &&
                   v.max_from_serial <= v.allowed_from_serial;
        return v;
    }

    [[nodiscard]] static gradient_verdict judged_heads(std::span<const A> have, const std::vector<double>& serial_has,
                                                       const judged_gradient& truth, bool exact) {
        gradient_verdict v;
        v.elements = static_cast<index_t>(truth.value.size());
        v.judged = exact ? v.elements : 0;
        v.passed = have.size() == truth.value.size();
        for (std::size_t h = 0; h < truth.value.size() && v.passed; ++h) {
            const double value = static_cast<double>(have[h]), from = distance_from(value, serial_has[h]);
            const gradient_verdict::element here{0, 0, static_cast<index_t>(h), 0};
            v.allowed_from_serial = std::max(v.allowed_from_serial, 4 * truth.bound[h]);
            if (from >= v.max_from_serial) v.max_from_serial = from, v.worst_from_serial = here;
            if (!exact) continue;
            const double error = distance_from(value, truth.value[h]), ratio = ratio_of(error, truth.bound[h]);
            v.serial_error = std::max(v.serial_error, distance_from(serial_has[h], truth.value[h]));
            v.max_abs_error = std::max(v.max_abs_error, error);
            if (ratio >= v.worst_ratio) v.worst_ratio = ratio, v.bound = truth.bound[h], v.worst = here;
        }
        v.passed = v.passed && v.worst_ratio <= 1 && v.max_from_serial <= v.allowed_from_serial;
        return v;
    }

    tensor<T> dq_, dk_, dv_;               // serial's
    std::vector<double> dsinks_, dslopes_; // serial's
    double largest_lse_ = 0;               // |lse| of serial, where a row sees a key
    std::vector<sampled_row> rows_, keys_;
    std::array<std::vector<judged_gradient>, 3> truth_; // of dq at rows_; of dk and dv at keys_
    judged_gradient sinks_, slopes_;
    bool slopes_judged_ = true;
};

} // namespace seqpar
