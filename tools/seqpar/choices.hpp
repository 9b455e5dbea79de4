#pragma once

#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/layout/any_layout.hpp>

#include <string>
#include <string_view>

namespace seqpar::tool {

/// Policies by the names that they have on the command line. @throws refusal for others
[[nodiscard]] any_layout layout_named(std::string_view name);
[[nodiscard]] any_kernel kernel_named(std::string_view name);

/// Its name, and the instruction set if it is chosen at run time.
[[nodiscard]] std::string kernel_text(std::string_view name);

} // namespace seqpar::tool
