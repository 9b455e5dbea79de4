#pragma once

#include <seqpar/core/tensor.hpp>

#include <span>
#include <string>
#include <string_view>

namespace seqpar::tool {

/// The whole number that a text is, low <= number <= high. `option` names it in the refusal.
[[nodiscard]] index_t whole_number(std::string_view option, std::string_view text, index_t low, index_t high);

/// The same, where K, which is 1024, or M, 1024 K, may follow: "128K".
[[nodiscard]] index_t whole_number_with_unit(std::string_view option, std::string_view text, index_t low, index_t high);

/// The finite number that a text is.
[[nodiscard]] double real_number(std::string_view option, std::string_view text);

/// Which of the allowed words a text is.
[[nodiscard]] std::size_t choice(std::string_view option, std::string_view text,
                                 std::span<const std::string_view> allowed);

/// The allowed word that a text differs least from.
[[nodiscard]] std::string_view nearest(std::string_view text, std::span<const std::string_view> allowed);

/// "a, b, c"
[[nodiscard]] std::string list(std::span<const std::string_view> words);

} // namespace seqpar::tool
