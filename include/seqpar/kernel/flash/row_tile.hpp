#pragma once

#include <seqpar/core/block.hpp>
#include <seqpar/core/partial.hpp>
#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/scratch.hpp>
#include <seqpar/kernel/flash/tile.hpp>
#include <seqpar/kernel/flash/tile_view.hpp>

#include <algorithm>
#include <limits>

namespace seqpar::flash_detail {

/// A tile of rows of one head on its way through the runs of keys: started from a partial, finished into it.
template <class T, class A>
class row_tile {
public:
    row_tile(const engine<A>& code, const typename flash_scratch<A>::arena& scratch, index_t rows, index_t dim,
             index_t columns)
        : code_(code), scratch_(scratch), rows_(rows), dim_(dim), columns_(columns) {}

    /// Packs rows [row, row + rows) of a head of q, times `scale`, and takes up where `from` stands.
    void start(const tensor_view<const T>& q, A scale, const partial<A>& from, index_t b, index_t row,
               index_t h) const {
        const index_t R = code_.group_rows, dim_v = from.shape().dim;
        for (index_t r = 0; r < (rows_ + R - 1) / R * R; ++r) {
            A* to = scratch_.q + r / R * R * dim_ + r % R;
            const T* row_of_q = q.at(b, row + std::min(r, rows_ - 1), h);
            for (index_t d = 0; d < dim_; ++d) to[d * R] = static_cast<A>(row_of_q[d * q.step().dim]) * scale;
        }
        std::fill_n(scratch_.sums, tile_rows * code_.lanes, A{});
        std::fill_n(scratch_.reference, tile_rows, A{});
        // The two products round the number of rows up differently.
        std::fill(scratch_.p + rows_ * block_keys, scratch_.p + tile_rows * block_keys, A{});
        std::fill(scratch_.acc + rows_ * columns_, scratch_.acc + tile_rows * columns_, A{});
        for (index_t r = 0; r < rows_; ++r) {
            A* acc = scratch_.acc + r * columns_;
            std::copy_n(from.acc().at(b, row + r, h), dim_v, acc);
            std::fill(acc + dim_v, acc + columns_, A{});
            const A max = from.max()(b, row + r, h);
            // Any score exceeds the lowest finite number by the threshold, and nothing minus it is NaN.
            scratch_.reference[r] = max == -std::numeric_limits<A>::infinity() ? std::numeric_limits<A>::lowest() : max;
            scratch_.sums[r * code_.lanes] = from.sum()(b, row + r, h);
        }
    }

    /// Folds panels [begin, end) of a run whose first panel is `panel` of `keys`. changes: null, if the score changes no
    /// values; if it does, start() was given a scale without log2 e.
    void fold(const key_panels<A>& keys, index_t panel, const tile_view<tile_rows>& seen, index_t begin, index_t end,
              const row_changes<A>* changes) const {
        const index_t width = code_.panel_keys;
        const index_t full_begin = (seen.all_first + width - 1) / width;
        const tile<A> t{scratch_.q,
                        scratch_.p,
                        scratch_.acc,
                        scratch_.sums,
                        scratch_.reference,
                        seen.first.data(),
                        seen.last.data(),
                        rows_,
                        dim_,
                        columns_,
                        changes};
        (changes != nullptr ? code_.fold_changed : code_.fold)(
            t, {keys.k + panel * width * dim_, keys.v + panel * width * columns_, keys.tainted + panel, begin, end,
                full_begin, std::max(full_begin, seen.all_last / width), seen.any_first, seen.any_last});
    }

    void finish(partial<A>& into, index_t b, index_t row, index_t h) const {
        for (index_t r = 0; r < rows_; ++r) {
            A* sums = scratch_.sums + r * code_.lanes;
            for (index_t half = code_.lanes / 2; half > 0; half /= 2)
                for (index_t i = 0; i < half; ++i) sums[i] += sums[i + half];
            if (sums[0] == 0) continue; // has seen nothing yet: stays the identity
            std::copy_n(scratch_.acc + r * columns_, into.shape().dim, into.acc().at(b, row + r, h));
            into.max()(b, row + r, h) = scratch_.reference[r];
            into.sum()(b, row + r, h) = sums[0];
        }
    }

private:
    engine<A> code_;
    typename flash_scratch<A>::arena scratch_;
    index_t rows_, dim_, columns_;
};

} // namespace seqpar::flash_detail
