#include "words.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <vector>

namespace seqpar::tool {
namespace {

/// Letters to insert, drop or exchange to make one word of the other (Levenshtein).
[[nodiscard]] std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0]++;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t exchanged = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({exchanged, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row.back();
}

template <class Number>
[[nodiscard]] std::from_chars_result read(std::string_view text, Number& value) {
    const std::size_t sign = text.size() > 1 && text[0] == '+' && text[1] != '-' ? 1 : 0;
    return std::from_chars(text.data() + sign, text.data() + text.size(), value);
}

} // namespace

index_t whole_number(std::string_view option, std::string_view text, index_t low, index_t high) {
    index_t value = 0;
    const auto [end, problem] = read(text, value);
    const bool whole = end == text.data() + text.size() && !text.empty();
    if (!whole || problem == std::errc::invalid_argument)
        throw refusal(fmt::format("{} '{}' is not a whole number: allowed are {} to {}", option, text, low, high));
    if (problem != std::errc{} || value < low || value > high) {
        const bool below = problem != std::errc{} ? text.front() == '-' : value < low;
        throw refusal(fmt::format("{} {} is out of range: allowed are {} to {}; nearest is {}", option, text, low, high,
                                  below ? low : high));
    }
    return value;
}

index_t whole_number_with_unit(std::string_view option, std::string_view text, index_t low, index_t high) {
    const index_t unit = text.ends_with('K') ? 1024 : text.ends_with('M') ? 1024 * 1024 : 1;
    if (unit == 1) return whole_number(option, text, low, high);
    index_t value = 0;
    const std::string_view digits = text.substr(0, text.size() - 1);
    const auto [end, problem] = read(digits, value);
    if (digits.empty() || end != digits.data() + digits.size() || problem == std::errc::invalid_argument)
        throw refusal(
            fmt::format("{} '{}' is not a whole number: allowed are {} to {}, and whole numbers of K, which is "
                        "1024, or M, which is 1024 K",
                        option, text, low, high));
    const bool too_low = problem == std::errc{} ? value < (low + unit - 1) / unit : digits.front() == '-';
    if (too_low || problem != std::errc{} || value > high / unit)
        throw refusal(fmt::format("{} {} is out of range: allowed are {} to {}; nearest is {}", option, text, low, high,
                                  too_low ? low : high));
    return value * unit;
}

double real_number(std::string_view option, std::string_view text) {
    double value = 0;
    const auto [end, problem] = read(text, value);
    if (end != text.data() + text.size() || problem == std::errc::invalid_argument)
        throw refusal(fmt::format("{} '{}' is not a number: allowed is any finite one", option, text));
    if (problem != std::errc{} || !std::isfinite(value))
        throw refusal(fmt::format("{} {} is not finite: allowed is any finite number", option, text));
    return value;
}

std::size_t choice(std::string_view option, std::string_view text, std::span<const std::string_view> allowed) {
    const auto found = std::find(allowed.begin(), allowed.end(), text);
    if (found == allowed.end())
        throw refusal(fmt::format("{} '{}' is unknown: allowed are {}; nearest is {}", option, text, list(allowed),
                                  nearest(text, allowed)));
    return static_cast<std::size_t>(found - allowed.begin());
}

std::string_view nearest(std::string_view text, std::span<const std::string_view> allowed) {
    return *std::min_element(allowed.begin(), allowed.end(), [&](std::string_view a, std::string_view b) {
        return distance(text, a) < distance(text, b);
    });
}

std::string list(std::span<const std::string_view> words) {
    return fmt::format("{}", fmt::join(words.begin(), words.end(), ", "));
}

} // namespace seqpar::tool
