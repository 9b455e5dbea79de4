#pragma once

#include <seqpar/core/tensor.hpp>

#include <array>
#include <cstddef>

namespace seqpar::flash_detail {

/// Rows of memory that will be read soon.
struct rows_to_come {
    const char* row = nullptr;
    index_t stride = 0, bytes = 0; ///< from row to row; of each row
    index_t rows = 0;
};

/// Those of a few arrays, one after the other. Asked for a line or two at a time between computations, they are on their
/// way while these run; asked for at once they would hold up what comes next.
class data_to_come {
public:
    void add(const rows_to_come& rows) noexcept {
        if (rows.rows > 0) parts_[static_cast<std::size_t>(count_++)] = rows;
    }

    /// Asks for the next `lines` cache lines.
    [[gnu::always_inline]] void ask(int lines) {
        constexpr index_t line = 64;
        for (int i = 0; i < lines && at_ < count_; ++i) {
            rows_to_come& now = parts_[static_cast<std::size_t>(at_)];
            __builtin_prefetch(now.row + offset_, 0, 3);
            offset_ += line;
            if (offset_ < now.bytes) continue;
            offset_ = 0;
            now.row += now.stride;
            if (--now.rows == 0) ++at_;
        }
    }

private:
    std::array<rows_to_come, 3> parts_;
    int at_ = 0, count_ = 0;
    index_t offset_ = 0; // in the row
};

/// The same, line by line whatever is asked.
struct line_by_line {
    data_to_come& from;
    [[gnu::always_inline]] void ask(int) { from.ask(1); }
};

/// Nothing to ask for.
struct nothing_to_come {
    [[gnu::always_inline]] void ask(int) const noexcept {}
};

} // namespace seqpar::flash_detail
