#pragma once

#include <seqpar/core/tensor.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace seqpar::flash_detail {

inline constexpr index_t cache_line = 64; ///< bytes

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
        wanted_ += lines;
        while (wanted_ > 0 && at_ < count_) {
            rows_to_come& now = parts_[static_cast<std::size_t>(at_)];
            const char* const row = now.row;
            const index_t bytes = now.bytes;
            for (index_t offset = 0; offset < bytes; offset += cache_line) __builtin_prefetch(row + offset, 0, 2);
            wanted_ -= (bytes + cache_line - 1) / cache_line;
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

/// Keys between one that is packed and one that is asked for: enough for memory to bring it meanwhile, and few enough that it is
/// still in the first cache then.
inline constexpr index_t keys_ahead = 32;

/// The same where keys are read in place, for each of two caches. The second one has more places for lines on their way than the
/// first, enough for all that memory can bring in the time it takes to; from there the first has its lines in a few cycles, and
/// its places stay free.
inline constexpr index_t keys_ahead_in_first = 16, keys_ahead_in_second = 48;

/// Asks for the cache line of bytes `bytes` of a row; of no row, for none. Cache: 3 for the first, 2 for the second.
template <int Cache = 3, class T>
[[gnu::always_inline]] inline void ask_for(const T* row, index_t bytes) {
    __builtin_prefetch(
        reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(row) + static_cast<std::uintptr_t>(bytes)), 0,
        Cache);
}

/// Asks for the line of `key` of keys to come, `step` apart.
template <class T>
[[gnu::always_inline]] inline void ask_for_keys_after(const T* key, index_t step) {
    const index_t bytes = step * index_t{sizeof(T)};
    ask_for<2>(key, keys_ahead_in_second * bytes);
    ask_for(key, keys_ahead_in_first * bytes);
}

/// Nothing to ask for.
struct nothing_to_come {
    [[gnu::always_inline]] void ask(index_t) const noexcept {}
};

} // namespace seqpar::flash_detail
