#pragma once

#include <seqpar/core/binned_partial.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/kernel/row_by_row.hpp>

#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace seqpar {

/// The definition of attention with sums that do not depend on their order: out, lse and all gradients have the same bits
/// for every strategy, layout, number of ranks and of threads, and communicator, on one binary and machine.
///
///     attention attend{world, ring{}, zigzag{}, causal{}, reproducible{}};
///
/// What one row and one key do to each other is computed in double, by operations that know no other row or key. All that
/// is added up over rows, keys, heads or ranks is added up in binned_sum, in the kernel, in messages and in merges. A weight
/// is exp(score) itself, so that nothing depends on which maximum is known where. Errors are those of double, rounded once
/// to the storage type.
///
/// O(rows * keys * head_dim) per head; one row of scores a worker. Accumulators take 32 bytes, in memory and on the wire.
struct reproducible {
    template <class T>
    using element = binned<T>;

    /// T: a binned element.
    template <real_element T, score S>
        requires(std::is_same_v<accumulator_t<T>, binned_sum>)
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<binned_sum>& into) const {
        if (keys.empty()) return;
        const detail::row_by_row<double, T, S> rows(how, q, keys, s);
        std::vector<detail::row_weights<double>> scratch = for_workers(rows.keys(), how);
        const extents& e = q.view.shape();
        how.executor.run(e.seq, [&](index_t i, int worker) {
            detail::row_weights<double>& w = scratch[static_cast<std::size_t>(worker)];
            for (index_t b = 0; b < e.batch; ++b)
                for (index_t h = 0; h < e.heads; ++h) {
                    rows.weigh(b, h, i, q.at.rows[i], false, w);
                    for (std::size_t j = 0; j < w.x.size(); ++j) {
                        if (w.x[j] == -std::numeric_limits<double>::infinity()) continue; // not seen, or of no weight
                        const partial<binned_sum>::weight p(w.x[j]);
                        into.sum()(b, i, h).add(p.value, p.exponent);
                        for (index_t d = 0; d < into.shape().dim && w.z[j] != 0; ++d) // 0: dropped
                            into.acc()(b, i, h, d).add(w.z[j] * p.value * rows.value(j, b, h, d), p.exponent);
                    }
                    report(how, worker);
                }
        });
    }

    /// See row_by_row::add_gradients.
    template <real_element T, differentiable_score S>
        requires(std::is_same_v<accumulator_t<T>, binned_sum>)
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& of,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<binned_sum>& dq,
                  std::span<const key_gradients<binned_sum>> dkv) const {
        if (keys.empty() || q.view.shape().heads == 0) return;
        const detail::row_by_row<double, T, S> rows(how, q, keys, s);
        std::vector<detail::row_weights<double>> scratch = for_workers(rows.keys(), how);
        // Query heads that read one kv head add to the same dk and dv: they are one worker's.
        const index_t heads = q.view.shape().heads, first = rows.head(0) / how.group;
        how.executor.run(rows.head(heads - 1) / how.group - first + 1, [&](index_t item, int worker) {
            for (index_t h = 0; h < heads; ++h)
                if (rows.head(h) / how.group == first + item)
                    detail::for_each_row(q, [&](index_t b, index_t i, position at) {
                        rows.add_gradients(of, b, h, i, at, dq, dkv, scratch[static_cast<std::size_t>(worker)]);
                        report(how, worker);
                    });
        });
    }

    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents&, const extents&, std::span<const positions> keys,
                                              int workers) const {
        return detail::row_by_row<double, T, full>::bytes(keys, workers);
    }
    template <real_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents&, const extents&, std::span<const positions> keys,
                                                       int workers) const {
        return detail::row_by_row<double, T, full>::bytes(keys, workers);
    }

    [[nodiscard]] std::string name() const { return "reproducible"; }

private:
    [[nodiscard]] static std::vector<detail::row_weights<double>> for_workers(std::size_t keys, const context& how) {
        std::vector<detail::row_weights<double>> all;
        for (int worker = 0; worker < how.executor.workers(); ++worker) all.emplace_back(keys, how.memory);
        return all;
    }
    static void report(const context& how, int worker) {
        if (worker == 0 && how.progress != nullptr) (*how.progress)();
    }
};
static_assert(kernel<reproducible, binned<float>> && kernel<reproducible, binned<double>> &&
              kernel<reproducible, binned<bfloat16>>);

} // namespace seqpar
