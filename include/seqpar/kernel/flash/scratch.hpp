#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/array_layout.hpp>
#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/key_panels.hpp>
#include <seqpar/kernel/flash/tile.hpp>

#include <cstddef>

namespace seqpar::flash_detail {

/// The scratch of one forward call: the packed keys and values of one head, and a tile's worth for each worker.
/// O(keys * (head_dim of k + of v) + workers * tile_rows * (block_keys + head_dim of k + of v)), whatever the number
/// of rows.
template <class A>
class flash_scratch : public array_layout {
public:
    /// `rows`: the number of query rows of all heads and batch entries; without any, or without keys, nothing is
    /// needed.
    flash_scratch(const engine<A>& code, const panel_plan& plan, index_t rows, index_t dim, index_t dim_v,
                  int workers) noexcept
        : dim_(dim), columns_(padded_to(code.lanes, dim_v)) {
        if (rows == 0 || plan.panels() == 0) return;
        const index_t keys = plan.panels() * plan.panel_keys();
        k_ = take<A>(keys * dim);
        v_ = take<A>(keys * columns_);
        tainted_ = take<unsigned char>(plan.panels());
        worker_ = bytes_;
        q_ = take<A>(tile_rows * dim);
        p_ = take<A>(tile_rows * block_keys);
        acc_ = take<A>(tile_rows * columns_);
        sums_ = take<A>(tile_rows * code.lanes);
        reference_ = take<A>(tile_rows);
        worker_bytes_ = bytes_ - worker_;
        bytes_ = worker_ + static_cast<std::size_t>(workers) * worker_bytes_;
    }

    [[nodiscard]] index_t columns() const noexcept { return columns_; }

    [[nodiscard]] key_panels<A> panels(std::byte* base) const noexcept {
        return {at<A>(base, k_), at<A>(base, v_), at<unsigned char>(base, tainted_), dim_, columns_};
    }

    /// A worker's part of a tile.
    struct arena {
        A *q, *p, *acc, *sums, *reference;
    };
    [[nodiscard]] arena worker(std::byte* base, int w) const noexcept {
        base += static_cast<std::size_t>(w) * worker_bytes_;
        return {at<A>(base, q_), at<A>(base, p_), at<A>(base, acc_), at<A>(base, sums_), at<A>(base, reference_)};
    }

private:
    index_t dim_, columns_;
    std::size_t worker_ = 0, worker_bytes_ = 0;
    std::size_t k_ = 0, v_ = 0, tainted_ = 0, q_ = 0, p_ = 0, acc_ = 0, sums_ = 0, reference_ = 0;
};

} // namespace seqpar::flash_detail
