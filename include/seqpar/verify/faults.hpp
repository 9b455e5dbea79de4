#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/verify/array_verdict.hpp>
#include <seqpar/verify/distance.hpp>
#include <seqpar/verify/expectation.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

namespace detail {

/// Counts what is off in an array, and finds what it has in common.
class fault_count {
public:
    explicit fault_count(const extents& e)
        : shape_(e), of_batch_(size(e.batch)), of_row_(size(e.seq)), of_head_(size(e.heads)),
          of_component_(size(e.dim)), of_one_head_(size(e.batch * e.heads)) {}

    void add(index_t b, index_t i, index_t h, index_t d, double value, double right, double bound) {
        ++off_, ++of_batch_[size(b)], ++of_row_[size(i)], ++of_head_[size(h)], ++of_component_[size(d)];
        ++of_one_head_[size(b * shape_.heads + h)];
        nothing_seen_ += bound == 0 && (right == 0 || right < -std::numeric_limits<double>::max());
        if (!std::isfinite(right)) return;
        if (!std::isfinite(value)) {
            ++not_finite_;
            return;
        }
        ++finite_, zeros_ += value == 0 && right != 0;
        vv_ += value * value, vr_ += value * right, rr_ += right * right;
        const double apart = value - right;
        apart_ += apart, apart_squared_ += apart * apart;
    }

    void report(array_verdict& v, double roundoff) const {
        v.off = off_, v.not_finite = not_finite_;
        if (off_ == 0) return;
        v.batches = ranges(of_batch_), v.rows = ranges(of_row_), v.heads = ranges(of_head_);
        v.components = ranges(of_component_);
        const double box = count(v.batches) * count(v.rows) * count(v.heads) * count(v.components);
        v.filled = static_cast<double>(off_) / box;
        const auto say = [&](const auto&... parts) { v.patterns.push_back(concat(parts...)); };

        if (not_finite_ == off_)
            say("all that is off is not finite: NaN or infinity where a number should be");
        else if (not_finite_ > 0)
            say(not_finite_, " elements are not finite: NaN or infinity where a number should be");
        if (nothing_seen_ > 0)
            say(nothing_seen_, " elements are of rows that see no key: out is 0 there, lse -inf, and gradients are 0");
        if (zeros_ == off_)
            say("all that is off is 0, as if it had never been written");
        else
            say_what_changes_values(v, roundoff, say);
        say_places(v, say);
    }

    /// Of a head of a batch entry: is nine tenths of it off?
    [[nodiscard]] bool whole(index_t b, index_t h) const {
        return 10 * of_one_head_[size(b * shape_.heads + h)] >= 9 * shape_.seq * shape_.dim;
    }
    [[nodiscard]] bool any_whole() const {
        for (index_t b = 0; b < shape_.batch; ++b)
            for (index_t h = 0; h < shape_.heads; ++h)
                if (whole(b, h)) return true;
        return false;
    }

private:
    static std::size_t size(index_t n) { return static_cast<std::size_t>(n); }
    static double count(const std::vector<array_verdict::range>& of) {
        double all = 0;
        for (const auto& r : of) all += static_cast<double>(r.last - r.first + 1);
        return all;
    }
    static std::vector<array_verdict::range> ranges(const std::vector<index_t>& counts) {
        std::vector<array_verdict::range> all;
        for (index_t n = 0; n < static_cast<index_t>(counts.size()); ++n) {
            if (counts[size(n)] == 0) continue;
            if (!all.empty() && all.back().last == n - 1)
                all.back().last = n;
            else
                all.push_back({n, n});
        }
        return all;
    }

    template <class Say>
    void say_what_changes_values(const array_verdict& v, double roundoff, const Say& say) const {
        constexpr index_t enough = 8; // fewer elements agree on a factor by chance
        if (finite_ < enough) return;
        const double near = std::max(1e-3, 2 * roundoff), n = static_cast<double>(finite_);
        const double factor = rr_ > 0 ? vr_ / rr_ : 0;
        const double besides = vv_ - factor * vr_; // sum of (value - factor right)^2
        const bool by_factor = vv_ > 0 && besides <= near * near * vv_ && std::abs(factor - 1) > near;
        const double mean = apart_ / n;
        if (by_factor && v.name == "lse" && std::abs(factor * std::numbers::ln2 - 1) <= near)
            say("the logarithm is in base 2 and should be natural: multiply it by ln 2");
        else if (by_factor)
            say("what is off is ", factor, " times what is right");
        else if (apart_squared_ - mean * apart_ <= near * near * apart_squared_)
            say("what is off is off by the same amount everywhere: ", mean);
    }

    template <class Say>
    void say_places(const array_verdict& v, const Say& say) const {
        const bool all_heads = count(v.heads) == static_cast<double>(shape_.heads),
                   all_rows = count(v.rows) == static_cast<double>(shape_.seq), filled = v.filled >= 0.9;
        if (off_ == 1) return;
        if (all_heads && all_rows && filled && count(v.batches) == static_cast<double>(shape_.batch))
            say("all of it is off");
        if (shape_.heads > 1 && !all_heads && all_rows && any_whole())
            say("whole heads are off, and others are right: an offset or a group of heads");
        if (!all_rows && filled && v.rows.size() == 1 && v.rows[0].last > v.rows[0].first && shape_.seq > 1)
            say("one block of rows is off, and others are right: a block that is lost, counted twice or not rescaled, "
                "or a "
                "mask");
    }

    extents shape_;
    index_t off_ = 0, not_finite_ = 0, finite_ = 0, zeros_ = 0, nothing_seen_ = 0;
    std::vector<index_t> of_batch_, of_row_, of_head_, of_component_, of_one_head_;
    double vv_ = 0, vr_ = 0, rr_ = 0, apart_ = 0, apart_squared_ = 0;
};

/// Says of whole heads that are off whether they hold what another head should.
template <real_element T>
void find_exchanged_heads(const tensor_view<const T>& have, const expectation<T>& should, const fault_count& faults,
                          double allowed, array_verdict& v) {
    const extents& e = have.shape();
    constexpr index_t rows = 32, most = 16; // that are looked at; heads that are told of
    index_t told = 0;
    const auto holds = [&](index_t b, index_t h, index_t g) {
        bool moved = false; // where two heads should be alike, nothing can be told
        for (index_t n = 0; n < std::min(rows, e.seq); ++n) {
            const index_t i = n * e.seq / std::min(rows, e.seq);
            for (index_t d = 0; d < e.dim; ++d) {
                const double value = static_cast<double>(*have.at(b, i, h, d)),
                             other = static_cast<double>(*should.serial.at(b, i, g, d));
                if (distance_from(value, other) > allowed) return false;
                moved |= distance_from(static_cast<double>(*should.serial.at(b, i, h, d)), other) > allowed;
            }
        }
        return moved;
    };
    for (index_t b = 0; b < e.batch; ++b)
        for (index_t h = 0; h < e.heads; ++h)
            for (index_t g = 0; g < e.heads && faults.whole(b, h) && told < most; ++g)
                if (g != h && holds(b, h, g)) {
                    v.patterns.push_back(concat("head ", h, " of batch entry ", b, " holds what head ", g, " should"));
                    ++told;
                    break;
                }
}

} // namespace detail

/// Compares an array with what it should be, every element of it. O(elements).
template <real_element T>
[[nodiscard]] array_verdict find_faults(std::string name, const tensor_view<const T>& have,
                                        const expectation<T>& should) {
    const extents& e = have.shape();
    array_verdict v;
    v.name = std::move(name), v.shape = e, v.judged = static_cast<index_t>(should.at.size()) * e.dim;
    detail::fault_count faults(e);
    double widest = should.allowed_from_serial;
    std::size_t next = 0; // of the judged rows
    bool first = true;
    for (index_t b = 0; b < e.batch; ++b)
        for (index_t i = 0; i < e.seq; ++i)
            for (index_t h = 0; h < e.heads; ++h) {
                const bool judged = next < should.at.size() && should.at[next].b == b && should.at[next].i == i &&
                                    should.at[next].h == h;
                for (index_t d = 0; d < e.dim; ++d) {
                    const std::size_t n = static_cast<std::size_t>(d);
                    const double value = static_cast<double>(*have.at(b, i, h, d)),
                                 serial = static_cast<double>(*should.serial.at(b, i, h, d)),
                                 right = judged ? should.values[next][n] : serial,
                                 bound = judged ? should.bounds[next][n] : should.allowed_from_serial,
                                 error = distance_from(value, right), ratio = ratio_of(error, bound);
                    if (judged) {
                        v.max_abs_error = std::max(v.max_abs_error, error);
                        v.serial_error = std::max(v.serial_error, distance_from(serial, right));
                        if (std::isfinite(bound)) widest = std::max(widest, bound);
                    }
                    if (ratio > 1) faults.add(b, i, h, d, value, right, bound);
                    if (first || ratio > v.worst.ratio)
                        v.worst = {b, i, h, d, value, right, error, bound, ratio, judged};
                    first = false;
                }
                next += judged ? 1 : 0;
            }
    faults.report(v, element_traits<T>::roundoff);
    if (e.heads > 1 && faults.any_whole()) detail::find_exchanged_heads(have, should, faults, widest, v);
    return v;
}

} // namespace seqpar
