#include "choices.hpp"

#include "words.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <fmt/format.h>

#include <array>

namespace seqpar::tool {
namespace {

constexpr std::array<std::string_view, 3> layouts{"contiguous", "zigzag", "striped"};
constexpr std::array<std::string_view, 2> kernels{"flash", "reference"};
constexpr std::array<std::string_view, 2> alignments{"top-left", "bottom-right"};

[[nodiscard]] sliding_window window_of(const std::string& text, const alignment& align) {
    const std::size_t comma = text.find(',');
    if (comma == std::string::npos)
        throw refusal(
            fmt::format("--window '{}' is not of the form L,R: keys from p - L to p + R, each 0 or more, or -1 "
                        "for open (as in --window 127,0)",
                        text));
    const auto side = [&](const char* name, std::string_view number) {
        return whole_number(fmt::format("--window '{}': {} of", text, name), number, sliding_window::open,
                            alignment::limit);
    };
    const std::string_view whole = text;
    return {side("L", whole.substr(0, comma)), side("R", whole.substr(comma + 1)), align};
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
    if (choice("--kernel", name, kernels) == 1) return reference{};
    return flash{};
}

std::string kernel_text(std::string_view name) {
    if (choice("--kernel", name, kernels) == 1) return reference{}.name();
    return fmt::format("{} ({})", flash{}.name(), to_string(best_instruction_set()));
}

any_score score_of(const score_request& request) {
    if (request.align && request.q_offset)
        throw refusal(fmt::format("--align {} and --q-offset {} both say where query 0 stands: give one of them",
                                  *request.align, *request.q_offset));
    alignment align;
    if (request.align && choice("--align", *request.align, alignments) == 1) align = alignment::bottom_right();
    if (request.q_offset)
        align = alignment::at(whole_number("--q-offset", *request.q_offset, -alignment::limit, alignment::limit));

    if (request.window) {
        const sliding_window window = window_of(*request.window, align);
        if (request.causal) return causal{align} & window;
        return window;
    }
    if (request.causal) return causal{align};
    return full{};
}

} // namespace seqpar::tool
