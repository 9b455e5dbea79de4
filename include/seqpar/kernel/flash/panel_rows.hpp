#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/engine.hpp>

#include <array>
#include <cstddef>

namespace seqpar::flash_detail {

/// Where the rows of a few keys lie, on their way into panels; and those of the next ones, as far as they are known.
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
    }

    /// The panel of keys that begins with key `first`, to `to`.
    void pack_keys(const engine<T>& code, index_t first, index_t dim, A* to) const {
        code.transpose_rows(rows_.data() + first, steps_.data() + first, dim, to);
    }
    /// Their values. Tells whether all are finite.
    [[nodiscard]] bool pack_values(const engine<T>& code, index_t first, index_t dim, A* to, index_t columns) const {
        return code.copy_rows(rows_.data() + first, steps_.data() + first, dim, to, columns);
    }

private:
    std::array<const T*, Most + keys_ahead> rows_{};
    std::array<index_t, Most + keys_ahead> steps_{};
};

} // namespace seqpar::flash_detail
