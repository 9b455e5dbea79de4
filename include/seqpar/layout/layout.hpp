#pragma once

#include <seqpar/core/origin.hpp>

#include <concepts>
#include <string>

namespace seqpar {

/// Which rank holds which rows of a sequence.
///
/// For a model L with a value l:
///   1. l.positions(rank, size, n) is the `positions` of the rows that `rank` of `size` ranks holds, of a sequence of n.
///      Over all ranks they are a bijection onto [0, n), for every n >= 0 and size >= 1, n < size included.
///   2. l.name() is a std::string that is equal for equal layouts and unequal for others.
/// It is a pure function: every rank computes every other's rows, and nothing is sent.
///
/// A minimal model:
///
///     struct everything_on_the_last {
///         seqpar::positions positions(int rank, int size, seqpar::index_t n) const {
///             return rank == size - 1 ? seqpar::positions::whole(n) : seqpar::positions{};
///         }
///         std::string name() const { return "everything_on_the_last"; }
///     };
template <class L>
concept layout = requires(const L& l, int rank, int size, index_t n) {
    { l.positions(rank, size, n) } -> std::same_as<positions>;
    { l.name() } -> std::convertible_to<std::string>;
};

namespace detail {

/// Part `which` of n rows cut into `parts` consecutive parts, the first n % parts of them one row longer.
[[nodiscard]] constexpr run even_part(index_t which, index_t parts, index_t n) noexcept {
    const index_t small = n / parts, longer = n % parts;
    return {position{which * small + (which < longer ? which : longer)}, 1, small + (which < longer ? 1 : 0)};
}

} // namespace detail
} // namespace seqpar
