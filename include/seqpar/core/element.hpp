#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace seqpar {

/// Brain floating point: the upper half of a float. A storage type only; sums are kept in float.
/// Conversion from float rounds to nearest, ties to even; NaN stays NaN.
class bfloat16 {
public:
    bfloat16() = default;
    explicit constexpr bfloat16(float value) noexcept : bits_(round(std::bit_cast<std::uint32_t>(value))) {}

    constexpr operator float() const noexcept { // NOLINT: widening is exact
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits_) << 16);
    }

    [[nodiscard]] static constexpr bfloat16 from_bits(std::uint16_t bits) noexcept {
        bfloat16 value;
        value.bits_ = bits;
        return value;
    }
    [[nodiscard]] constexpr std::uint16_t bits() const noexcept { return bits_; }

private:
    static constexpr std::uint16_t round(std::uint32_t word) noexcept {
        const bool nan = (word & 0x7fffffffU) > 0x7f800000U;
        if (nan) return static_cast<std::uint16_t>((word >> 16) | 0x40U); // quiet, and never rounded up to infinity
        return static_cast<std::uint16_t>((word + 0x7fffU + ((word >> 16) & 1U)) >> 16);
    }

    std::uint16_t bits_ = 0;
};
static_assert(sizeof(bfloat16) == 2);

/// An element that has a wire size and no value: tensors of ghosts have extents and no storage, messages of ghosts have
/// bytes and no pointer. A strategy run on ghosts moves exactly what it would move on T, without the memory.
template <class T>
struct ghost {
    using value_type = T;
};

/// What the library knows of an element type: the type that sums are kept in, and where that is no number (binned_sum) the
/// one that elements are multiplied in, scalar; the bytes of one element on the wire, the
/// bytes of one element in memory, the unit roundoff of storing one, and a name.
template <class T>
struct element_traits;

template <>
struct element_traits<float> {
    using accumulator = float;
    static constexpr std::size_t wire_bytes = 4, stored_bytes = 4;
    static constexpr double roundoff = 0x1p-24;
    static constexpr std::string_view name = "float";
};

template <>
struct element_traits<double> {
    using accumulator = double;
    static constexpr std::size_t wire_bytes = 8, stored_bytes = 8;
    static constexpr double roundoff = 0x1p-53;
    static constexpr std::string_view name = "double";
};

template <>
struct element_traits<bfloat16> {
    using accumulator = float;
    static constexpr std::size_t wire_bytes = 2, stored_bytes = 2;
    static constexpr double roundoff = 0x1p-8;
    static constexpr std::string_view name = "bfloat16";
};

template <class T>
struct element_traits<ghost<T>> {
    using accumulator = ghost<typename element_traits<T>::accumulator>;
    static constexpr std::size_t wire_bytes = element_traits<T>::wire_bytes, stored_bytes = 0;
    static constexpr double roundoff = element_traits<T>::roundoff;
    static constexpr std::string_view name = "ghost";
};

/// The type that values of T are summed in: float for float and bfloat16, double for double.
template <class T>
using accumulator_t = typename element_traits<T>::accumulator;

/// The type that values of T are multiplied in: that, unless it is no number.
template <class T>
struct scalar {
    using type = accumulator_t<T>;
};
template <class T>
    requires requires { typename element_traits<T>::scalar; }
struct scalar<T> {
    using type = typename element_traits<T>::scalar;
};
template <class T>
using scalar_t = typename scalar<T>::type;

/// A type that tensors are made of: float, double, bfloat16, or a ghost of one of them.
template <class T>
concept element = requires {
    typename element_traits<T>::accumulator;
};

template <class T>
concept ghost_element = element<T> && element_traits<T>::stored_bytes == 0;

/// An element with a value.
template <class T>
concept real_element = element<T> && !ghost_element<T>;

static_assert(real_element<float> && real_element<double> && real_element<bfloat16> && ghost_element<ghost<bfloat16>>);

} // namespace seqpar
