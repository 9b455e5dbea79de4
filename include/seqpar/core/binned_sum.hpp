#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace seqpar {

/// A sum of doubles that does not depend on their order, nor on how they were grouped into sums of sums: the same bits for
/// any number of ranks.
///
/// The axis of binary exponents is cut into bins of 32 bits, in places that depend on nothing. A summand is cut into whole
/// numbers, one for each bin that it reaches into; each bin adds its whole numbers, which is exact, hence associative. Only
/// the three highest bins are kept, counted from the one where the largest summand begins: what lies below them is cut off
/// each summand, whenever it comes. (Demmel, Ahrens and Nguyen 2020, Efficient reproducible floating point summation, ACM
/// TOMS 46(3), with integers in the bins.)
///
/// A sum of n doubles is off by less than n 2^-64 times the largest of them, before it is rounded to a double. Exponents
/// are those of a summand times 2^e, |e| <= 2^34, so that weights exp2(score) need no common reference. Infinity and NaN are
/// added as in floating point. At most 2^31 summands.
class binned_sum {
    __extension__ typedef unsigned __int128 wide;
    __extension__ typedef __int128 signed_wide;

public:
    /// Nothing has been added: zero.
    binned_sum() = default;
    explicit binned_sum(double x) noexcept { add(x); }

    /// Adds x * 2^e. O(1).
    void add(double x, std::int64_t e = 0) noexcept {
        constexpr std::uint64_t fraction = (std::uint64_t{1} << 52) - 1;
        const auto word = std::bit_cast<std::uint64_t>(x);
        const int exponent = static_cast<int>(word >> 52 & 0x7ff);
        if (exponent == 0x7ff) {
            specials_ |= (word & fraction) != 0 ? not_a_number : (word >> 63) != 0 ? minus_infinity : plus_infinity;
            return;
        }
        const std::uint64_t whole = (word & fraction) | static_cast<std::uint64_t>(exponent != 0) << 52;
        if (whole == 0) return;
        // |x| 2^e = whole * 2^unit
        const std::int64_t unit = e + (exponent != 0 ? exponent : 1) - 1075;
        const std::int64_t bin = (unit + 63 - std::countl_zero(whole)) >> 5;
        if (top_ == 0 || bin > top()) raise(bin);
        const std::int64_t shift = unit - (top() - 2) * bits; // against the lowest bin
        if (shift <= -64) return;
        const wide digits = shift >= 0 ? static_cast<wide>(whole) << shift : static_cast<wide>(whole >> -shift);
        const std::int64_t sign = (word >> 63) != 0 ? -1 : 1;
        bin_[0] += sign * static_cast<std::int64_t>(digits >> 64);
        bin_[1] += sign * static_cast<std::int64_t>(digits >> 32 & 0xffffffff);
        bin_[2] += sign * static_cast<std::int64_t>(digits & 0xffffffff);
    }

    binned_sum& operator+=(double x) noexcept {
        add(x);
        return *this;
    }
    /// Adds all that another one has added.
    binned_sum& operator+=(const binned_sum& other) noexcept {
        specials_ |= other.specials_;
        if (other.top_ == 0) return *this;
        if (top_ == 0 || other.top() > top()) raise(other.top());
        const std::int64_t lower = top() - other.top();
        for (std::int64_t i = lower; i < bins; ++i) bin_[i] += other.bin_[i - lower];
        return *this;
    }

    /// The sum is value * 2^exponent, value being rounded to nearest: infinity, NaN, zero, or such that it can be divided
    /// by another one's.
    struct scaled {
        double value;
        std::int64_t exponent;
    };
    [[nodiscard]] scaled rounded() const noexcept {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        if ((specials_ & not_a_number) != 0 || specials_ == (plus_infinity | minus_infinity))
            return {std::numeric_limits<double>::quiet_NaN(), 0};
        if (specials_ != 0) return {specials_ == plus_infinity ? infinity : -infinity, 0};
        if (top_ == 0) return {0, 0};
        const signed_wide total = (static_cast<signed_wide>(bin_[0]) * 4294967296 + bin_[1]) * 4294967296 + bin_[2];
        return {static_cast<double>(total), (top() - 2) * bits};
    }
    explicit operator double() const noexcept {
        const scaled s = rounded();
        constexpr std::int64_t far = 1 << 20; // beyond any double
        return std::ldexp(s.value, static_cast<int>(s.exponent < -far ? -far : s.exponent > far ? far : s.exponent));
    }
    explicit operator float() const noexcept { return static_cast<float>(static_cast<double>(*this)); }

    friend bool operator==(const binned_sum&, const binned_sum&) = default;

private:
    static constexpr int bins = 3, bits = 32;
    static constexpr std::uint32_t plus_infinity = 1, minus_infinity = 2, not_a_number = 4;
    static constexpr std::int64_t bias = std::int64_t{1} << 30;

    [[nodiscard]] std::int64_t top() const noexcept { return static_cast<std::int64_t>(top_) - bias; }

    /// The highest bin is this one from now on; bins that fall off the other end are forgotten.
    void raise(std::int64_t bin) noexcept {
        const std::int64_t by = top_ == 0 ? bins : bin - top();
        for (std::int64_t i = bins - 1; i >= 0; --i) bin_[i] = i >= by ? bin_[i - by] : 0;
        top_ = static_cast<std::uint32_t>(bin + bias);
    }

    std::int64_t bin_[bins] = {}; // the highest first, in units of 2^(32 bin)
    std::uint32_t top_ = 0;       // number of the highest bin, plus bias; 0: none yet
    std::uint32_t specials_ = 0;
};
static_assert(sizeof(binned_sum) == 32);

} // namespace seqpar
