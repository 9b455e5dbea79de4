#pragma once

#include <span>
#include <string_view>

namespace seqpar::tool {

/// A description that comes with the program: tools/seqpar/machines/<name>.json.
struct shipped_machine {
    std::string_view name, json;
};

/// All of them, by name. What the build makes of the files.
[[nodiscard]] std::span<const shipped_machine> shipped_machines() noexcept;

} // namespace seqpar::tool
