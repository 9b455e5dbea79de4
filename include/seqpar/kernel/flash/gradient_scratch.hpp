#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/array_layout.hpp>
#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/gradient_tile.hpp>
#include <seqpar/kernel/flash/key_tiles.hpp>

#include <algorithm>
#include <cstddef>

namespace seqpar::flash_detail {

/// The scratch of one backward call: the packed rows of a few heads with their dq, and a block of keys with its dk and
/// dv for each worker.
///
/// As many heads are under way at once as give every worker a few blocks of keys to choose from: heads that read
/// different kv heads only, at most batch * min(heads, kv_heads); one where there are 4 blocks of keys for each worker.
/// O(heads at once * rows * (2 head_dim + head_dim of v) + workers * gradient_keys * (3 head_dim + 2 of v)).
template <class T>
class gradient_scratch : public array_layout {
    using A = accumulator_t<T>;

public:
    static constexpr index_t blocks_per_worker = 4;

    gradient_scratch(const engine<T>& code, const key_tiles& keys, const extents& q, const extents& v,
                     int workers) noexcept
        : k_columns_(padded_to(code.lanes, q.dim)), v_columns_(padded_to(code.lanes, v.dim)),
          tiles_((q.seq + gradient_rows - 1) / gradient_rows), blocks_(keys.count()) {
        if (q.batch * q.seq * q.heads == 0 || blocks_ == 0) return;
        const index_t wanted = workers == 1 ? 1 : (blocks_per_worker * workers + blocks_ - 1) / blocks_;
        heads_ = std::clamp(wanted, index_t{1}, q.batch * std::max(index_t{1}, std::min(q.heads, v.heads)));
        const index_t rows = tiles_ * gradient_rows;
        q_ = take<A>(rows * k_columns_);
        dout_ = take<A>(rows * v_columns_);
        lse_ = take<A>(rows);
        delta_ = take<A>(rows);
        dq_ = take<A>(rows * k_columns_);
        slopes_ = take<double>(rows);
        tainted_ = take<unsigned char>(tiles_);
        blind_ = take<unsigned char>(tiles_);
        passed_ = take<index_t>(blocks_);
        head_bytes_ = bytes_;
        worker_ = bytes_ = static_cast<std::size_t>(heads_) * head_bytes_;
        k_ = take<A>(gradient_keys * q.dim);
        v_ = take<A>(gradient_keys * v.dim);
        k_rows_ = take<A>(gradient_keys * k_columns_);
        dk_ = take<A>(gradient_keys * k_columns_);
        dv_ = take<A>(gradient_keys * v_columns_);
        p_ = take<A>(gradient_rows * gradient_keys);
        ds_ = take<A>(gradient_rows * gradient_keys);
        worker_bytes_ = bytes_ - worker_;
        bytes_ = worker_ + static_cast<std::size_t>(workers) * worker_bytes_;
    }

    [[nodiscard]] index_t heads() const noexcept { return heads_; } ///< under way at once
    [[nodiscard]] index_t tiles() const noexcept { return tiles_; } ///< of rows
    [[nodiscard]] index_t k_columns() const noexcept { return k_columns_; }
    [[nodiscard]] index_t v_columns() const noexcept { return v_columns_; }

    /// One head's rows, padded to full tiles.
    struct rows_of_head {
        A *q, *dout, *lse, *delta, *dq;
        double* slopes;                 ///< [rows]: gradients by the head's slope, where they are wanted
        unsigned char *tainted, *blind; ///< [tiles]: some q or dout is not finite; some row has seen nothing
        index_t* passed;                ///< [blocks of keys]: how many tiles it has passed
    };
    [[nodiscard]] rows_of_head head(std::byte* base, index_t n) const noexcept {
        base += static_cast<std::size_t>(n) * head_bytes_;
        return {at<A>(base, q_),
                at<A>(base, dout_),
                at<A>(base, lse_),
                at<A>(base, delta_),
                at<A>(base, dq_),
                at<double>(base, slopes_),
                at<unsigned char>(base, tainted_),
                at<unsigned char>(base, blind_),
                at<index_t>(base, passed_)};
    }

    /// A worker's block of keys.
    struct arena {
        A *k, *v, *k_rows, *dk, *dv, *p, *ds;
    };
    [[nodiscard]] arena worker(std::byte* base, int w) const noexcept {
        base += static_cast<std::size_t>(w) * worker_bytes_;
        return {at<A>(base, k_),  at<A>(base, v_), at<A>(base, k_rows_), at<A>(base, dk_),
                at<A>(base, dv_), at<A>(base, p_), at<A>(base, ds_)};
    }

private:
    index_t k_columns_, v_columns_, tiles_, blocks_, heads_ = 0;
    std::size_t head_bytes_ = 0, worker_ = 0, worker_bytes_ = 0;
    std::size_t q_ = 0, dout_ = 0, lse_ = 0, delta_ = 0, dq_ = 0, slopes_ = 0, tainted_ = 0, blind_ = 0, passed_ = 0;
    std::size_t k_ = 0, v_ = 0, k_rows_ = 0, dk_ = 0, dv_ = 0, p_ = 0, ds_ = 0;
};

} // namespace seqpar::flash_detail
