#pragma once

#include <algorithm>
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
        const auto word = std::bit_cast<std::uint64_t>(x);
        const std::int64_t exponent = static_cast<std::int64_t>(word >> 52 & 0x7ff);
        // Against the lowest bin, where |x| 2^e is `whole` of its units.
        const std::int64_t shift = e + exponent - 1075 - unit();
        const bool normal = exponent != 0 && exponent != 0x7ff;
        // A whole number has 53 bits: so many more fit below the end of the highest bin.
        if (normal && -64 < shift && shift <= bins * bits - 53)
            put((word & fraction) | (fraction + 1), shift, word >> 63);
        else
            add_seldom(word, e);
    }

    binned_sum& operator+=(double x) noexcept {
        add(x);
        return *this;
    }
    /// Adds all that another one has added.
    binned_sum& operator+=(const binned_sum& other) noexcept {
        specials_ |= other.specials_;
        if (other.empty()) return *this;
        if (empty() || other.lowest_ > lowest_) raise(other.lowest_);
        const int lower = lowest_ - other.lowest_;
        for (int i = lower; i < bins; ++i) bin_[i] += other.bin_[i - lower];
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
        if (empty()) return {0, 0};
        const signed_wide total = (static_cast<signed_wide>(bin_[0]) * 4294967296 + bin_[1]) * 4294967296 + bin_[2];
        return {static_cast<double>(total), unit()};
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
    static constexpr std::int32_t none = std::numeric_limits<std::int32_t>::max();
    static constexpr std::uint64_t fraction = (std::uint64_t{1} << 52) - 1;

    /// Adds whole * 2^shift units of the lowest bin, or what of it reaches there.
    void put(std::uint64_t whole, std::int64_t shift, std::uint64_t negative) noexcept {
        const wide digits = shift >= 0 ? static_cast<wide>(whole) << shift : static_cast<wide>(whole >> -shift);
        const std::int64_t sign = -static_cast<std::int64_t>(negative); // 0 or -1: n ^ sign - sign is n or -n
        bin_[0] += (static_cast<std::int64_t>(digits >> 64) ^ sign) - sign;
        bin_[1] += (static_cast<std::int64_t>(digits >> 32 & 0xffffffff) ^ sign) - sign;
        bin_[2] += (static_cast<std::int64_t>(digits & 0xffffffff) ^ sign) - sign;
    }

    /// The same for numbers of any kind; moves the bins up where the number is larger than those before.
    [[gnu::noinline]] void add_seldom(std::uint64_t word, std::int64_t e) noexcept {
        const int exponent = static_cast<int>(word >> 52 & 0x7ff);
        if (exponent == 0x7ff) {
            specials_ |= (word & fraction) != 0 ? not_a_number : (word >> 63) != 0 ? minus_infinity : plus_infinity;
            return;
        }
        const std::uint64_t whole = (word & fraction) | static_cast<std::uint64_t>(exponent != 0) << 52;
        if (whole == 0) return;
        const std::int64_t of_x = e + (exponent != 0 ? exponent : 1) - 1075,
                           highest = (of_x + 63 - std::countl_zero(whole)) >> 5;
        const auto lowest = static_cast<std::int32_t>(highest - (bins - 1));
        if (empty() || lowest > lowest_) raise(lowest);
        if (of_x - unit() > -64) put(whole, of_x - unit(), word >> 63);
    }

    [[nodiscard]] bool empty() const noexcept { return lowest_ == none; }
    /// Of the lowest bin: 2^unit.
    [[nodiscard]] std::int64_t unit() const noexcept { return std::int64_t{lowest_} * bits; }

    /// This is the lowest bin from now on; those below it are forgotten.
    void raise(std::int32_t lowest) noexcept {
        const int by = empty() ? bins : static_cast<int>(std::min<std::int64_t>(bins, std::int64_t{lowest} - lowest_));
        for (int i = bins - 1; i >= 0; --i) bin_[i] = i >= by ? bin_[i - by] : 0;
        lowest_ = lowest;
    }

    std::int64_t bin_[bins] = {}; // the highest first, in units of 2^(32 bin)
    std::int32_t lowest_ = none;  // number of the lowest bin
    std::uint32_t specials_ = 0;
};
static_assert(sizeof(binned_sum) == 32);

} // namespace seqpar
