#pragma once

#include <seqpar/kernel/flash/simd.hpp>

#include <type_traits>

namespace seqpar::flash_detail {

/// Coefficients c of 2^f ~ 1 + f (c[0] + f (c[1] + ...)) on [-1/2, 1/2]: minimax in relative error, with 2^0 = 1 exact.
/// Fitted by Lawson's reweighted least squares (float) and the Remez exchange (double).
template <class A>
struct exp2_polynomial;

template <>
struct exp2_polynomial<float> { // relative error 9.2e-8
    static constexpr int degree = 5, exponent_bias = 127, mantissa_bits = 23;
    static constexpr float smallest = -126.0F, rounder = 0x1.8p23F + 127.0F;
    static constexpr float c[degree] = {0x1.62e42ap-1F, 0x1.ebf9bcp-3F, 0x1.c6b752p-5F, 0x1.3cea92p-7F,
                                        0x1.5bba2ep-10F};
};

template <>
struct exp2_polynomial<double> { // relative error 1.8e-17
    static constexpr int degree = 11, exponent_bias = 1023, mantissa_bits = 52;
    static constexpr double smallest = -1022.0, rounder = 0x1.8p52 + 1023.0;
    static constexpr double c[degree] = {0x1.62e42fefa39f3p-1,  0x1.ebfbdff82c598p-3,  0x1.c6b08d7048f31p-5,
                                         0x1.3b2ab6fba1e1cp-7,  0x1.5d87fe7bbbe07p-10, 0x1.4309130961163p-13,
                                         0x1.ffcbee3b0af8cp-17, 0x1.62bfd49ed0adfp-20, 0x1.b54167a0b9061p-24,
                                         0x1.e605f979c7a5dp-28, 0x1.c0638527edf34p-32};
};

/// x = 2^x for x <= 127 (float) or 1023 (double). 0 where 2^x is below the smallest normal number, 2^-inf = 0 among
/// them; NaN stays NaN.
template <class S>
[[gnu::always_inline]] inline void exp2_in_place(typename S::vector& x) {
    using vector = typename S::vector;
    using bits = typename S::bits;
    using fit = exp2_polynomial<typename S::value_type>;
    const vector rounder = fit::rounder - vector{};
    const vector rounded = x + rounder; // its low bits are round(x) + exponent_bias
    const vector f = x - (rounded - rounder);
    vector p = fit::c[fit::degree - 1] - vector{};
#pragma GCC unroll 16
    for (int i = fit::degree - 2; i >= 0; --i) p = p * f + (fit::c[i] - vector{});
    p = p * f + (typename S::value_type{1} - vector{});
    // A product and not an addition to the exponent: the latter would turn some NaN into numbers.
    const vector power = (vector)((bits)rounded << fit::mantissa_bits);
    x = x < (fit::smallest - vector{}) ? vector{} : p * power;
}

} // namespace seqpar::flash_detail
