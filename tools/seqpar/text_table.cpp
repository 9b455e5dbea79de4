#include "text_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace seqpar::tool {

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths(rows.front().size());
    for (const auto& row : rows)
        for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
    std::string text;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        for (std::size_t c = 0; c < rows[r].size(); ++c) {
            text +=
                c == 0 ? fmt::format("{:<{}}", rows[r][c], widths[c]) : fmt::format("  {:>{}}", rows[r][c], widths[c]);
        }
        text += '\n';
        if (r > 0) continue;
        std::size_t width = 2 * (widths.size() - 1);
        for (const std::size_t w : widths) width += w;
        text += std::string(width, '-') + '\n';
    }
    return text;
}

} // namespace seqpar::tool
