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
    /// Rows row, row + 1, ... of x are keys key, key + every, ...
    void set(index_t key, index_t every, index_t count, const tensor_view<const T>& x, index_t b, index_t row,
             index_t head) noexcept {
        const T* at = x.at(b, row, head);
        for (index_t i = 0; i < count; ++i, key += every, at += x.step().seq) {
            rows_[static_cast<std::size_t>(key)] = at;
            steps_[static_cast<std::size_t>(key)] = x.step().dim;
        }
        dense_ &= x.step().dim == 1;
    }

    /// panel[d][j] = element d of key first + j, for the keys of one panel; 0 for the last ones, if it has not so many.
    void pack(const engine<T>& code, index_t first, index_t dim, A* panel, data_to_come&& ahead = {}) const {
        pack(code, first, dim, panel, ahead);
    }
    /// The same, and asks for what is to come meanwhile.
    void pack(const engine<T>& code, index_t first, index_t dim, A* panel, data_to_come& ahead) const {
        const T* const* rows = rows_.data() + first;
        if (dense_) return code.transpose_rows(rows, dim, panel, ahead);
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
