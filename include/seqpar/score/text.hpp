#pragma once

#include <seqpar/core/mixed.hpp>

#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <iomanip>
#include <span>
#include <sstream>
#include <string>

namespace seqpar {

/// A number in as few digits as tell it apart from every other.
[[nodiscard]] inline std::string exact_text(double x) {
    std::array<char, 32> digits{};
    const auto [end, problem] = std::to_chars(digits.data(), digits.data() + digits.size(), x);
    static_cast<void>(problem);
    return {digits.data(), end};
}

/// Sixteen digits, equal for equal numbers and as good as never for others: for names.
[[nodiscard]] inline std::string hash_text(std::span<const double> numbers) {
    std::uint64_t hash = 0;
    for (const double x : numbers) hash = mixed(hash, std::bit_cast<std::uint64_t>(x));
    std::ostringstream text;
    text << std::hex << std::setw(16) << std::setfill('0') << hash;
    return text.str();
}

} // namespace seqpar
