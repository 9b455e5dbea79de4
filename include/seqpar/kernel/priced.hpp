#pragma once

#include <seqpar/core/element.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/kernel/tiles_seen.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <utility>

namespace seqpar {

/// What a call of a kernel computes.
struct kernel_work {
    bool backward = false;
    double pairs = 0; ///< of a row and a key, in tiles that are not skipped, times batch entries and query heads
    index_t dim = 0, dim_v = 0;

    /// 2 (d + d_v) for a pair, backward 2 (3 d + 2 d_v): scores and their gradient again, dq, dk, dv.
    [[nodiscard]] double flops() const noexcept {
        const auto d = static_cast<double>(dim), dv = static_cast<double>(dim_v);
        return pairs * 2 * (backward ? 3 * d + 2 * dv : d + dv);
    }
};

/// A kernel that computes nothing, and says what it would have computed. It takes ghosts for elements: strategies run on it
/// as on any other, with tensors that have extents and no storage.
class priced {
public:
    template <class T>
    using element = ghost<T>;

    /// `spend` is told of each call.
    explicit priced(std::function<void(const kernel_work&)> spend) : spend_(std::move(spend)) {}

    template <ghost_element T, class S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>&) const {
        spend_(work(false, how, q, keys, s));
    }
    template <ghost_element T, class S>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>&,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>&,
                  std::span<const key_gradients<accumulator_t<T>>>) const {
        spend_(work(true, how, q, keys, s));
    }
    template <ghost_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents&, const extents&, std::span<const positions>, int) const {
        return 0;
    }
    template <ghost_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents&, const extents&, std::span<const positions>,
                                                       int) const {
        return 0;
    }
    [[nodiscard]] std::string name() const { return "priced"; }

private:
    template <class T, class S>
    [[nodiscard]] static kernel_work work(bool backward, const context& how, const block<const T>& q,
                                          std::span<const key_block<T>> keys, const S& s) {
        kernel_work w{backward, 0, q.view.shape().dim, 0};
        for (const key_block<T>& k : keys) {
            w.pairs += pairs_in_tiles(s, how.n, q.at.rows, k.at.rows);
            w.dim_v = k.v.shape().dim;
        }
        w.pairs *= static_cast<double>(q.view.shape().batch * q.view.shape().heads);
        return w;
    }

    std::function<void(const kernel_work&)> spend_;
};

} // namespace seqpar
