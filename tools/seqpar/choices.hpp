#pragma once

#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/score/any_score.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace seqpar::tool {

/// Policies by the names that they have on the command line. @throws refusal for others
[[nodiscard]] any_layout layout_named(std::string_view name);
[[nodiscard]] any_kernel kernel_named(std::string_view name);

/// Its name, and the instruction set if it is chosen at run time.
[[nodiscard]] std::string kernel_text(std::string_view name);

/// What the options --causal, --window, --align and --q-offset ask for together.
struct score_request {
    bool causal = false;
    std::optional<std::string> window, align, q_offset;
};
[[nodiscard]] any_score score_of(const score_request& request);

} // namespace seqpar::tool
