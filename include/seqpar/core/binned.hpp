#pragma once

#include <seqpar/core/binned_sum.hpp>
#include <seqpar/core/element.hpp>
#include <seqpar/core/tensor.hpp>

#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>

namespace seqpar {

/// A T in memory and on the wire, whose sums are binned_sum: an attention over tensors of these, whatever the strategy, adds
/// up gradients and partials in an order that does not matter.
template <real_element T>
struct binned {
    T value;

    binned() = default;
    explicit binned(double x) noexcept : value(static_cast<T>(static_cast<accumulator_t<T>>(x))) {}
    explicit binned(const binned_sum& x) noexcept : binned(static_cast<double>(x)) {}

    template <std::floating_point C>
    explicit operator C() const noexcept {
        return static_cast<C>(value);
    }
    explicit operator binned_sum() const noexcept { return binned_sum(static_cast<double>(value)); }
};

template <>
struct element_traits<binned_sum> {
    using accumulator = binned_sum;
    static constexpr std::size_t wire_bytes = sizeof(binned_sum), stored_bytes = sizeof(binned_sum);
    static constexpr double roundoff = 0x1p-64;
    static constexpr std::string_view name = "binned_sum";
};

template <class T>
struct element_traits<binned<T>> {
    using accumulator = binned_sum;
    using scalar = accumulator_t<T>;
    static constexpr std::size_t wire_bytes = element_traits<T>::wire_bytes, stored_bytes = sizeof(T);
    static constexpr double roundoff = element_traits<T>::roundoff;
    static constexpr std::string_view name = element_traits<T>::name;
};
static_assert(sizeof(binned<bfloat16>) == sizeof(bfloat16) && std::is_trivially_copyable_v<binned<float>>);

/// The same elements as tensors of E, which is T or binned<T>.
template <class E, class T>
[[nodiscard]] tensor_view<E> viewed_as(const tensor_view<T>& x) noexcept {
    if constexpr (std::is_same_v<E, T>)
        return x;
    else
        return {reinterpret_cast<E*>(x.data()), x.shape(), x.step()};
}

} // namespace seqpar
