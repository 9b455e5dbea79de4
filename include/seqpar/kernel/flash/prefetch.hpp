#pragma once

#include <seqpar/core/tensor.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace seqpar::flash_detail {

/// Rows of memory that will be read soon.
struct rows_to_come {
    const char* row = nullptr;
    index_t stride = 0, bytes = 0; ///< from row to row; of each row
    index_t rows = 0;
};

/// Those of a few arrays, one after the other. Asked for a few lines at a time between computations, they are on their way
/// while these run; asked for at once they would hold up what comes next. Whole rows are asked for, on average as many lines as
/// are wanted, so that keeping count costs little.
class data_to_come {
public:
    void add(const rows_to_come& rows) noexcept {
        if (rows.rows > 0 && rows.bytes > 0) parts_[static_cast<std::size_t>(count_++)] = rows;
    }

    /// Asks for the next `lines` cache lines.
    [[gnu::always_inline]] void ask(index_t lines) {
        constexpr index_t line = 64;
        wanted_ += lines;
        while (wanted_ > 0 && at_ < count_) {
            rows_to_come& now = parts_[static_cast<std::size_t>(at_)];
            const char* const row = now.row;
            const index_t bytes = now.bytes;
            for (index_t offset = 0; offset < bytes; offset += line) __builtin_prefetch(row + offset, 0, 2);
            wanted_ -= (bytes + line - 1) / line;
            now.row = row + now.stride;
            if (--now.rows == 0) ++at_;
        }
    }

private:
    std::array<rows_to_come, 3> parts_;
    int at_ = 0, count_ = 0;
    index_t wanted_ = 0; // lines
};

/// Computations between two requests: products of so many elements with a panel.
inline constexpr index_t ask_every = 4;

/// The same, a third as many lines as are asked for.
struct a_third_of {
    data_to_come& from;
    [[gnu::always_inline]] void ask(index_t lines) { from.ask(lines / 3); }
};

/// Keys between one that is read and one that is asked for: enough for memory to bring it meanwhile, and few enough that it is
/// still in the first cache then. Asked for earlier it would take a place among the lines on their way twice.
inline constexpr index_t keys_ahead = 32;

/// Asks for the cache line of bytes `bytes` of a row; of no row, for none.
template <class T>
[[gnu::always_inline]] inline void ask_for(const T* row, index_t bytes) {
    __builtin_prefetch(
        reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(row) + static_cast<std::uintptr_t>(bytes)));
}

/// Nothing to ask for.
struct nothing_to_come {
    [[gnu::always_inline]] void ask(index_t) const noexcept {}
};

} // namespace seqpar::flash_detail
