#include "text_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace seqpar::tool {

std::string text_table(const std::vector<std::vector<std::string>>& rows, bool words_last) {
    std::vector<std::size_t> widths(rows.front().size());
    for (const auto& row : rows)
        for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
    std::string text;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        for (std::size_t c = 0; c < rows[r].size(); ++c) {
            if (words_last && c + 1 == rows[r].size()) {
                text += "  " + rows[r][c];
                continue;
            }
            text +=
                c == 0 ? fmt::format("{:<{}}", rows[r][c], widths[c]) : fmt::format("  {:>{}}", rows[r][c], widths[c]);
        }
        text.erase(text.find_last_not_of(' ') + 1); // of empty cells
        text += '\n';
        if (r > 0) continue;
        std::size_t width = 2 * (widths.size() - 1);
        for (const std::size_t w : widths) width += w;
        text += std::string(width, '-') + '\n';
    }
    return text;
}

} // namespace seqpar::tool
