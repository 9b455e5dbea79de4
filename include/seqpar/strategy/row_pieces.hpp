#pragma once

#include <seqpar/score/rows_seen.hpp>
#include <seqpar/strategy/parcel.hpp>

#include <memory_resource>
#include <vector>

namespace seqpar {

/// All rows of a block, run by run.
[[nodiscard]] inline row_selection every_row(const positions& rows) {
    row_selection all{rows, {}};
    index_t begin = 0;
    for (const run& r : rows.runs()) {
        all.rows.push_back({begin, begin + r.count});
        begin += r.count;
    }
    return all;
}

/// Calls f(interval of the block, first row among those selected) for each piece of a selection.
template <class F>
void for_each_piece(const row_selection& selected, const F& f) {
    index_t begin = 0;
    for (const interval& piece : selected.rows) {
        f(piece, begin);
        begin += piece.last - piece.first;
    }
}

/// A piece of a selection, in a tensor that holds the selected rows side by side, or the whole block.
template <class T>
[[nodiscard]] tensor_view<T> piece_of(const tensor_view<T>& held, const row_selection& selected, interval piece,
                                      index_t begin) {
    // If as many are held as are selected, both are the same.
    return held.rows(held.shape().seq == selected.at.size() ? begin : piece.first, piece.last - piece.first);
}

/// The selected rows of blocks, [batch, seq, heads, dim] -> [batch, selected, heads, dim], side by side in one parcel.
template <element... T>
[[nodiscard]] parcel pack_rows(std::pmr::memory_resource* memory, const row_selection& selected,
                               const tensor_view<const T>&... blocks) {
    const auto shape = [&](const auto& block) {
        extents e = block.shape();
        e.seq = selected.at.size();
        return e;
    };
    parcel packed((std::size_t{0} + ... + tensor<T>::bytes(shape(blocks))), memory);
    const auto pack = [&](const auto& block, const auto& to) {
        for_each_piece(selected, [&](interval piece, index_t begin) {
            const index_t count = piece.last - piece.first;
            copy(block.rows(piece.first, count), to.rows(begin, count));
        });
    };
    (pack(blocks, packed.carve<T>(shape(blocks))), ...);
    return packed;
}

/// Adds the selected rows to their places in a block.
template <class A>
void add_rows(const tensor_view<A>& rows, const row_selection& selected, const tensor_view<A>& block) {
    for_each_piece(selected, [&](interval piece, index_t begin) {
        const index_t count = piece.last - piece.first;
        accumulate(rows.rows(begin, count), block.rows(piece.first, count));
    });
}

} // namespace seqpar
