#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/array_layout.hpp>
#include <seqpar/kernel/flash/cache_size.hpp>
#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/key_panels.hpp>
#include <seqpar/kernel/flash/tile.hpp>
#include <seqpar/kernel/flash/tile_view.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace seqpar::flash_detail {

/// A tile of rows on its way through the keys: rows of all query heads that read one kv head, [row][head].
template <class A>
struct row_state {
    A *q, *acc, *sums, *reference;
    std::array<position, most_tile_rows> at;
    std::array<index_t, most_tile_rows> row, head; ///< of the block of q; the head's global index
    position_range range;
    tile_view<most_tile_rows> seen; ///< of the run of keys at hand
    bool packed, started;           ///< q is there; some key of the chunk is in acc and sums
};

/// How one forward call is shared among workers, and its scratch.
///
/// Many rows: the keys and values of one kv head are packed once for all, and a worker takes a few tiles of rows, which
/// go through the keys side by side where these do not fit the second-level cache. Few rows, as in decoding: a worker
/// takes a chunk of the keys and some kv heads, a block at a time, which all its rows meet while it is in cache: where the
/// keys lie, or packed for itself. Both make the same sums in the same order.
///
/// O(keys * (head_dim of k + of v)), or O(workers * rows + rows * heads * keys / chunk_keys) times the head_dims.
template <class T>
class forward_scratch : public array_layout {
    using A = accumulator_t<T>;

public:
    static constexpr index_t few_rows = 192;

    /// q: [batch, rows, heads, head_dim]; v: [batch, ., kv_heads, head_dim of v].
    forward_scratch(const engine<T>& code, const panel_plan& plan, const extents& q, const extents& v, int workers)
        : rows_(code.tile_rows), lanes_(code.lanes), width_(code.panel_keys), dim_(q.dim),
          q_columns_(padded_to(code.lanes, q.dim)), columns_(padded_to(code.lanes, v.dim)) {
        if (q.batch * q.seq * q.heads == 0 || plan.panels() == 0) return;
        // Which query heads read which kv head is not known here: at worst all of them the same one.
        const index_t rows = q.seq * q.heads, kv_heads = std::clamp(v.heads, index_t{1}, q.heads),
                      all_tiles = (rows + rows_ - 1) / rows_ + kv_heads - 1;
        chunks_ = plan.chunks();
        few_ = rows <= few_rows * kv_heads && (rows <= rows_ || q.batch * kv_heads * chunks_ >= workers);
        const index_t keys = few_ ? block_keys : plan.panels() * width_;
        const std::size_t cache = caches().second,
                          key_bytes = static_cast<std::size_t>(
                                          (code.keys_of_panel(dim_) + code.values_of_panel(columns_)) / width_) *
                                      sizeof(A),
                          tile_bytes = static_cast<std::size_t>(rows_ * (q_columns_ + columns_)) * sizeof(A);
        const auto fit = [&](std::size_t bytes) {
            return static_cast<index_t>(cache / 2 / std::max(bytes, std::size_t{1}));
        };
        step_ = block_keys;
        if (few_) {
            const index_t items = q.batch * chunks_,
                          shares = workers == 1 ? 1 : (4 * index_t{workers} + items - 1) / items;
            states_ = all_tiles;
            tiles_at_once_ = std::max(index_t{1}, std::min(fit(tile_bytes), all_tiles / shares));
        } else {
            // Each brings the keys once from where all of them are, while the tiles stream by, one after the other, from the
            // cache. Pieces enough that workers end together.
            const index_t head_tiles = rows / kv_heads / rows_,
                          share = workers == 1 ? head_tiles : head_tiles / (8 * index_t{workers});
            states_ = keys <= fit(key_bytes) ? 1 : std::min(share, fit(tile_bytes / 2)); // a cache full of tiles
            tiles_at_once_ = states_ = std::max(states_, index_t{1});
            step_ = std::clamp(fit(2 * key_bytes) / block_keys * block_keys, block_keys, chunk_keys);
        }
        const auto take_keys = [&] {
            k_ = take<A>(keys / width_ * code.keys_of_panel(dim_));
            v_ = take<A>(keys / width_ * code.values_of_panel(columns_));
            tainted_ = take<unsigned char>(keys / width_);
        };
        if (!few_) take_keys();
        if (few_ && chunks_ > 1) {
            const index_t all = chunks_ * q.batch * q.seq * q.heads;
            part_acc_ = take<A>(all * columns_);
            part_max_ = take<A>(all);
            part_sum_ = take<A>(all);
        }
        worker_ = bytes_;
        if (few_) take_keys();
        p_ = take<A>(code.weights);
        q_ = take<A>(states_ * rows_ * q_columns_);
        acc_ = take<A>(states_ * rows_ * columns_);
        sums_ = take<A>(states_ * rows_ * lanes_);
        reference_ = take<A>(states_ * rows_);
        state_ = take<row_state<A>>(states_);
        worker_bytes_ = bytes_ - worker_;
        bytes_ = worker_ + static_cast<std::size_t>(workers) * worker_bytes_;
    }

    [[nodiscard]] index_t q_columns() const noexcept { return q_columns_; }
    [[nodiscard]] index_t columns() const noexcept { return columns_; }
    [[nodiscard]] bool few() const noexcept { return few_; } ///< rows: workers pack keys for themselves
    /// Tiles that a worker takes at once; where rows are few, those of one kv head at least.
    [[nodiscard]] index_t tiles_at_once() const noexcept { return tiles_at_once_; }
    [[nodiscard]] index_t chunks() const noexcept { return chunks_; }
    /// Panels that all tiles of a worker meet before it goes on.
    [[nodiscard]] index_t step() const noexcept { return step_ / width_; }

    /// Keys and values: of a whole head; where rows are few, of a block for worker w.
    [[nodiscard]] key_panels<A> panels(std::byte* base, int w) const noexcept {
        base += few_ ? static_cast<std::size_t>(w) * worker_bytes_ : 0;
        return {at<A>(base, k_), at<A>(base, v_), at<unsigned char>(base, tainted_), 0};
    }
    [[nodiscard]] A* weights(std::byte* base, int w) const noexcept {
        return at<A>(base + static_cast<std::size_t>(w) * worker_bytes_, p_);
    }
    /// The n-th tile of worker w.
    [[nodiscard]] row_state<A>& state(std::byte* base, int w, index_t n) const noexcept {
        base += static_cast<std::size_t>(w) * worker_bytes_;
        row_state<A>& s = at<row_state<A>>(base, state_)[n];
        s.q = at<A>(base, q_) + n * rows_ * q_columns_;
        s.acc = at<A>(base, acc_) + n * rows_ * columns_;
        s.sums = at<A>(base, sums_) + n * rows_ * lanes_;
        s.reference = at<A>(base, reference_) + n * rows_;
        return s;
    }
    /// What chunks have made of rows, [chunk][row]: acc, max, sum.
    struct parts {
        A *acc, *max, *sum;
    };
    [[nodiscard]] parts results(std::byte* base) const noexcept {
        return {at<A>(base, part_acc_), at<A>(base, part_max_), at<A>(base, part_sum_)};
    }

private:
    index_t rows_, lanes_, width_, dim_, q_columns_, columns_;
    index_t chunks_ = 0, states_ = 0, tiles_at_once_ = 1, step_ = 0;
    bool few_ = false;
    std::size_t worker_ = 0, worker_bytes_ = 0;
    std::size_t k_ = 0, v_ = 0, tainted_ = 0, part_acc_ = 0, part_max_ = 0, part_sum_ = 0;
    std::size_t p_ = 0, q_ = 0, acc_ = 0, sums_ = 0, reference_ = 0, state_ = 0;
};

} // namespace seqpar::flash_detail
