#include "choices.hpp"

#include "words.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>

#include <fmt/format.h>

#include <array>

namespace seqpar::tool {
namespace {

constexpr std::array<std::string_view, 3> layouts{"contiguous", "zigzag", "striped"};
constexpr std::array<std::string_view, 2> kernels{"flash", "reference"};

} // namespace

any_layout layout_named(std::string_view name) {
    switch (choice("--layout", name, layouts)) {
    case 1:
        return zigzag{};
    case 2:
        return striped{};
    default:
        return contiguous{};
    }
}

any_kernel kernel_named(std::string_view name) {
    if (choice("--kernel", name, kernels) == 1) return reference{};
    return flash{};
}

std::string kernel_text(std::string_view name) {
    if (choice("--kernel", name, kernels) == 1) return reference{}.name();
    return fmt::format("{} ({})", flash{}.name(), to_string(best_instruction_set()));
}

} // namespace seqpar::tool
