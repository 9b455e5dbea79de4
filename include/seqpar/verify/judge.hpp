#pragma once

#include <seqpar/comm/self.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/strategy/passes.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/strategy.hpp>
#include <seqpar/verify/definition.hpp>
#include <seqpar/verify/distance.hpp>
#include <seqpar/verify/expectation.hpp>
#include <seqpar/verify/report.hpp>
#include <seqpar/verify/sample.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

namespace seqpar {

/// How much of the output is compared with the definition, which costs O(keys * head_dim) a row in double.
struct judging {
    double budget = 2e9;    ///< multiply-adds to spend on it: all rows if that is enough, seeded sample rows if not
    std::uint64_t seed = 1; ///< of the sample
    int merges = 1;         ///< partials that are merged on the way to a result: ranks
    index_t rows = 0;       ///< instead of what the budget affords: that many rows, 16 at least; 0: the budget decides
    std::optional<judged_arithmetic> arithmetic = {}; ///< of the result; none: this library's, of its element type

    [[nodiscard]] double affordable(double per_row) const {
        return rows > 0 ? static_cast<double>(rows) : budget / per_row;
    }
    template <real_element T>
    [[nodiscard]] judged_arithmetic arithmetic_of() const {
        return arithmetic.value_or(judged_arithmetic::of<T>(merges));
    }
};

/// Judges outputs of one attention over a whole sequence. Serial and the definition are computed once, whatever number of
/// results is judged. Views must outlive it.
template <real_element T, class Kernel, score S>
class judge {
    using A = accumulator_t<T>;

public:
    /// q: [batch, Nq, heads, head_dim], k and v: [batch, Nk, kv_heads, ...]. `how` gives scale, group and lengths; its
    /// executor's workers share the work.
    judge(const Kernel& kernel, const S& s, const context& how, const tensor_view<const T>& q,
          const tensor_view<const T>& k, const tensor_view<const T>& v, const judging& options)
        : judge(how, q, v) {
        const placement whole{{positions::whole(q.shape().seq), {0, q.shape().heads}},
                              {positions::whole(k.shape().seq), {0, k.shape().heads}}};
        const local_attention<Kernel, S> local{kernel, s, how};
        serial::bound<self_communicator> bound;
        detail::passes<kernel_element_t<Kernel, T>, T>::forward(bound, local, std::span(&whole, 1),
                                                                operands<T>{q, k, v, out_.view(), lse_.view()});
        define_rows(s, how, q, k, v, options);
    }
    /// The same where serial has been run already: out and lse are what it has computed.
    judge(const S& s, const context& how, const tensor_view<const T>& q, const tensor_view<const T>& k,
          const tensor_view<const T>& v, const tensor_view<const T>& serial_out, const tensor_view<const A>& serial_lse,
          const judging& options)
        : judge(how, q, v) {
        copy(serial_out, out_.view());
        copy(serial_lse, lse_.view());
        define_rows(s, how, q, k, v, options);
    }

    /// What serial computed: [batch, Nq, heads, head_dim of v] and [batch, Nq, heads, 1].
    [[nodiscard]] tensor_view<const T> out() const noexcept { return out_.view(); }
    [[nodiscard]] tensor_view<const A> lse() const noexcept { return lse_.view(); }

    /// Judges a result of that shape; lse may be a default view.
    ///
    /// It passes if (1) every judged element is within its bound of the definition, (2) the largest error is at most twice
    /// serial's, with 17 u on top, and (3) every element is as near to serial's as the judged bounds let two results be.
    [[nodiscard]] report compare(const tensor_view<const T>& out, const tensor_view<const A>& lse = {}) const {
        report r = against_definition(out, lse);
        const report serial =
            against_definition(out_.view(), lse.shape().dim != 0 ? lse_.view() : tensor_view<const A>{});
        r.serial_error = serial.max_abs_error;
        against_serial(out, lse, r);
        const double floor = 17 * element_traits<A>::roundoff * std::max(1.0, largest_v_);
        r.passed = r.worst_ratio <= 1 && r.max_abs_error <= 2 * r.serial_error + floor &&
                   r.max_from_serial <= r.allowed_from_serial;
        return r;
    }

    /// What out, [batch, Nq, heads, head_dim of v], should be; and lse, [batch, Nq, heads, 1]. Views of what is here.
    [[nodiscard]] expectation<T> expected_out() const {
        expectation<T> all{out_.view(), places_, {}, {}, allowed_of_out()};
        for (const judged_row& row : rows_) all.values.push_back(row.out), all.bounds.push_back(row.bound);
        return all;
    }
    [[nodiscard]] expectation<A> expected_lse() const {
        expectation<A> all{lse_.view(), places_, {}, {}, allowed_of_lse()};
        for (const judged_row& row : rows_) all.values.push_back({row.lse}), all.bounds.push_back({row.lse_bound});
        return all;
    }

private:
    // Two results within a bound of the truth are within two of each other. Rows that were not judged may have larger bounds
    // than those that were: another factor of two, still far below any defect.
    [[nodiscard]] double allowed_of_out() const {
        return 4 * std::max(largest_bound_, element_traits<T>::roundoff * largest_v_);
    }
    [[nodiscard]] double allowed_of_lse() const {
        return 4 * std::max(largest_lse_bound_, 4 * element_traits<A>::roundoff);
    }

    judge(const context& how, const tensor_view<const T>& q, const tensor_view<const T>& v)
        : out_({q.shape().batch, q.shape().seq, q.shape().heads, v.shape().dim}, format::bshd, how.memory),
          lse_({q.shape().batch, q.shape().seq, q.shape().heads, 1}, format::bhsd, how.memory), v_(v) {}

    void define_rows(const S& s, const context& how, const tensor_view<const T>& q, const tensor_view<const T>& k,
                     const tensor_view<const T>& v, const judging& options) {
        const double per_row =
            static_cast<double>(how.n.keys) * static_cast<double>(2 * q.shape().dim + 2 * v.shape().dim) + 1;
        rows_of_output_ = q.shape().batch * q.shape().seq * q.shape().heads;
        places_ = sample_rows(q.shape(), options.affordable(per_row), options.seed);
        rows_.resize(places_.size());
        context quiet = how;
        quiet.progress = nullptr;
        const definition<T, S> define(quiet, q, k, v, s, options.arithmetic_of<T>());
        how.executor.run(static_cast<index_t>(places_.size()), [&](index_t item, int) {
            const sampled_row& p = places_[static_cast<std::size_t>(item)];
            judged_row& row = rows_[static_cast<std::size_t>(item)];
            row = define.row(p.b, p.i, p.h);
            row.weight = row.error = {}; // of each key: not needed any more
        });
        find_tolerance();
    }

    /// The largest judged bound relative to the largest |v|: what elements that were not judged may be off by.
    void find_tolerance() {
        for (index_t b = 0; b < v_.shape().batch; ++b)
            for (index_t j = 0; j < v_.shape().seq; ++j)
                for (index_t h = 0; h < v_.shape().heads; ++h)
                    for (index_t d = 0; d < v_.shape().dim; ++d) {
                        const double value = std::abs(static_cast<double>(*v_.at(b, j, h, d)));
                        if (std::isfinite(value)) largest_v_ = std::max(largest_v_, value);
                    }
        for (const judged_row& row : rows_) {
            for (const double bound : row.bound)
                if (std::isfinite(bound)) largest_bound_ = std::max(largest_bound_, bound);
            if (std::isfinite(row.lse_bound)) largest_lse_bound_ = std::max(largest_lse_bound_, row.lse_bound);
        }
    }

    [[nodiscard]] report against_definition(const tensor_view<const T>& out, const tensor_view<const A>& lse) const {
        report r;
        r.rows = rows_of_output_;
        r.rows_judged = static_cast<index_t>(rows_.size());
        double squares = 0;
        for (std::size_t n = 0; n < rows_.size(); ++n) {
            const sampled_row& p = places_[n];
            const judged_row& row = rows_[n];
            double largest = 0;
            for (const double x : row.out)
                if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
            const auto consider = [&](double value, double truth, double bound, index_t component) {
                const double error = distance_from(value, truth);
                const double ratio = ratio_of(error, bound);
                if (component >= 0) {
                    r.max_abs_error = std::max(r.max_abs_error, error);
                    squares += error * error;
                    if (error > 0) r.max_rel_error = std::max(r.max_rel_error, error / largest);
                }
                if (ratio > r.worst_ratio || (n == 0 && component == 0)) {
                    r.worst_ratio = ratio;
                    r.bound = bound;
                    r.worst = {p.b, p.i, p.h, component};
                }
            };
            for (std::size_t d = 0; d < row.out.size(); ++d)
                consider(static_cast<double>(*out.at(p.b, p.i, p.h, static_cast<index_t>(d))), row.out[d], row.bound[d],
                         static_cast<index_t>(d));
            if (lse.shape().dim != 0) consider(static_cast<double>(*lse.at(p.b, p.i, p.h)), row.lse, row.lse_bound, -1);
        }
        const double elements = static_cast<double>(r.rows_judged * out.shape().dim);
        r.rms_error = elements > 0 ? std::sqrt(squares / elements) : 0;
        return r;
    }

    void against_serial(const tensor_view<const T>& out, const tensor_view<const A>& lse, report& r) const {
        r.allowed_from_serial = allowed_of_out();
        r.same_bits_as_serial = true;
        double excess = -1;
        const auto compare_all = [&](const auto& have, const auto& want, double allowed, bool is_lse) {
            using element = std::remove_cvref_t<decltype(*have.data())>;
            const extents& e = have.shape();
            for (index_t b = 0; b < e.batch; ++b)
                for (index_t i = 0; i < e.seq; ++i)
                    for (index_t h = 0; h < e.heads; ++h)
                        for (index_t d = 0; d < e.dim; ++d) {
                            const element x = *have.at(b, i, h, d), y = *want.at(b, i, h, d);
                            if (std::memcmp(&x, &y, sizeof x) == 0) continue;
                            r.same_bits_as_serial = false;
                            // lse counts in units of what is allowed of out, so that one number judges both
                            const double off = distance_from(static_cast<double>(x), static_cast<double>(y)) *
                                               (is_lse ? r.allowed_from_serial / allowed : 1);
                            r.max_from_serial = std::max(r.max_from_serial, off);
                            if (off > excess) {
                                excess = off;
                                r.worst_from_serial = {b, i, h, is_lse ? -1 : d};
                            }
                        }
        };
        compare_all(out, out_.view(), r.allowed_from_serial, false);
        if (lse.shape().dim != 0) compare_all(lse, lse_.view(), allowed_of_lse(), true);
    }

    tensor<T> out_;
    tensor<A> lse_;
    tensor_view<const T> v_;
    index_t rows_of_output_ = 0;
    std::vector<sampled_row> places_;
    std::vector<judged_row> rows_;
    double largest_v_ = 0, largest_bound_ = 0, largest_lse_bound_ = 0;
};

} // namespace seqpar
