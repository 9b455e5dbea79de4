#pragma once

#include <string>
#include <vector>

namespace seqpar::tool {

/// Rows of cells as lines of equal columns; the first row is the heading, the first column stands left and the others right,
/// but for a last one of words, which stands left, too.
[[nodiscard]] std::string text_table(const std::vector<std::vector<std::string>>& rows, bool words_last = false);

} // namespace seqpar::tool
