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
#include <vector>

namespace seqpar::tool {
namespace {

constexpr std::array<std::string_view, 3> layouts{"contiguous", "zigzag", "striped"};
constexpr std::array<std::string_view, 2> kernels{"flash", "reference"};

/// "flash:avx2": its name, and the set that is forced.
[[nodiscard]] flash flash_named(std::string_view name) {
    const std::size_t colon = name.find(':');
    if (colon == name.npos) return {};
    std::vector<std::string_view> sets;
    for (const instruction_set set : all_instruction_sets)
        if (is_supported(set)) sets.push_back(to_string(set));
    const std::string_view asked = name.substr(colon + 1);
    static_cast<void>(choice("--kernel flash:", asked, sets));
    return {*instruction_set_named(asked)};
}

[[nodiscard]] bool is_reference(std::string_view name) {
    return choice("--kernel", name.starts_with("flash:") ? "flash" : name, kernels) == 1;
}

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
    if (is_reference(name)) return reference{};
    return flash_named(name);
}

std::string kernel_text(std::string_view name) {
    if (is_reference(name)) return reference{}.name();
    const flash kernel = flash_named(name);
    kernel.check();
    return fmt::format("flash ({})", to_string(kernel.target()));
}

} // namespace seqpar::tool
