#pragma once

#include <seqpar/core/origin.hpp>
#include <seqpar/core/tensor.hpp>

#include <type_traits>

namespace seqpar {

/// Copies the rows at these positions out of a whole sequence. whole: [batch, N, heads, dim]; rows: [batch, at.size(), heads, dim].
template <class From, class To>
void take_rows(const tensor_view<From>& whole, const positions& at, const tensor_view<To>& rows) {
    index_t row = 0;
    for (const run& r : at.runs()) {
        copy(whole.rows(r.first.value, r.count, r.stride), rows.rows(row, r.count));
        row += r.count;
    }
}

/// Copies rows to their positions in a whole sequence: the inverse of take_rows.
template <class From, class To>
void put_rows(const tensor_view<From>& rows, const positions& at, const tensor_view<To>& whole) {
    index_t row = 0;
    for (const run& r : at.runs()) {
        copy(rows.rows(row, r.count), whole.rows(r.first.value, r.count, r.stride));
        row += r.count;
    }
}

} // namespace seqpar
