#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/engine.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace seqpar::flash_detail {

/// Where the rows of a few keys lie, on their way into panels.
template <class T, std::size_t Most>
class panel_rows {
    using A = accumulator_t<T>;

public:
    void set(index_t key, const T* row, index_t step) noexcept {
        rows_[static_cast<std::size_t>(key)] = row;
        steps_[static_cast<std::size_t>(key)] = step;
        dense_ &= step == 1;
    }

    /// panel[d][j] = element d of key first + j, for the keys of one panel; 0 where there is no such key.
    void pack(const engine<T>& code, index_t first, index_t dim, A* panel) const {
        const T* const* rows = rows_.data() + first;
        if (dense_) return code.transpose_rows(rows, dim, panel);
        for (index_t j = 0; j < code.panel_keys; ++j)
            for (index_t d = 0; d < dim; ++d)
                panel[d * code.panel_keys + j] =
                    rows[j] != nullptr ? static_cast<A>(rows[j][d * steps_[static_cast<std::size_t>(first + j)]]) : A{};
    }

private:
    std::array<const T*, Most> rows_{};
    std::array<index_t, Most> steps_{};
    bool dense_ = true; // the elements of every row lie side by side
};

} // namespace seqpar::flash_detail
