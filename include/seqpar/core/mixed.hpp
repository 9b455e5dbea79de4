#pragma once

#include <cstdint>

namespace seqpar {

/// One step of a 64-bit hash. (The finaliser of SplitMix64, Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195.)
[[nodiscard]] constexpr std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) noexcept {
    std::uint64_t z = (hash ^ value) + 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

} // namespace seqpar
