#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace seqpar {

/// Whether a strategy causes what is exchanged under that name: checks, the making of groups, and barriers it does not.
[[nodiscard]] constexpr bool is_payload(std::string_view operation) noexcept {
    constexpr std::array<std::string_view, 3> apart{"preflight", "split", "barrier"};
    return std::find(apart.begin(), apart.end(), operation) == apart.end();
}

} // namespace seqpar
