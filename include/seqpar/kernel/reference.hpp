#pragma once

#include <seqpar/core/interleave.hpp>
#include <seqpar/kernel/kernel.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory_resource>
#include <numbers>
#include <span>
#include <string>
#include <vector>

namespace seqpar {

/// The definition of attention, written to be read:
///
///     x_ij = scale * q_i . k_j * log2 e        for the keys j that row i sees
///     out_i = sum_j exp2(x_ij - max_i) v_j / sum_j exp2(x_ij - max_i)
///
/// Any element type; O(rows * keys * head_dim) per head, one row of scores at a time.
struct reference {
    /// Where a key of the union of several blocks is found.
    struct key_place {
        std::size_t source;
        index_t row;
    };

    /// All keys of the blocks, in the order of interleave(), which has given `plan`.
    [[nodiscard]] static std::pmr::vector<key_place> places(const interleaved& plan,
                                                            std::pmr::memory_resource* memory) {
        std::pmr::vector<key_place> all(static_cast<std::size_t>(plan.rows.size()), key_place{}, memory);
        for (const segment& s : plan.segments)
            for (index_t i = 0; i < s.count; ++i)
                all[static_cast<std::size_t>(s.to + i * s.every)] = {s.source, s.from + i};
        return all;
    }

    /// Scores of one row, x[j] = scale * q . k_j in A, for every key of the union; -inf where the row at `at` does not see
    /// it. q points to the row's head_dim elements, q_step apart.
    template <class A, class T, score S>
    static void score_row(const context& how, const T* q, index_t q_step, position at,
                          std::span<const key_block<T>> keys, index_t b, index_t kv_head, const interleaved& plan,
                          std::span<const key_place> places, const S& s, std::span<A> x) {
        std::ranges::fill(x, -std::numeric_limits<A>::infinity());
        index_t begin = 0; // of the run among the keys
        for (const run& r : plan.rows.runs()) {
            const interval seen = s.visible(how.n, at, r);
            for (index_t i = seen.first; i < seen.last; ++i) {
                const std::size_t j = static_cast<std::size_t>(begin + i);
                const tensor_view<const T>& k = keys[places[j].source].k;
                const T* key = k.at(b, places[j].row, kv_head);
                A dot = 0;
                for (index_t d = 0; d < k.shape().dim; ++d)
                    dot += static_cast<A>(q[d * q_step]) * static_cast<A>(key[d * k.step().dim]);
                x[j] = static_cast<A>(how.scale) * dot;
            }
            begin += r.count;
        }
    }

    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        using A = accumulator_t<T>;
        if (keys.empty()) return;
        std::vector<positions> rows;
        for (const key_block<T>& block : keys) rows.push_back(block.at.rows);
        const interleaved plan = interleave(rows);
        const auto where = places(plan, how.memory);
        std::pmr::vector<A> x(where.size(), A{}, how.memory);
        const extents e = q.view.shape();
        const index_t dim_v = into.shape().dim;
        std::pmr::vector<A> acc(static_cast<std::size_t>(dim_v), A{}, how.memory);

        for (index_t b = 0; b < e.batch; ++b)
            for (index_t h = 0; h < e.heads; ++h) {
                const index_t g = how.kv_head(q.at.heads, h, keys.front().at.heads);
                index_t i = 0;
                for (const run& r : q.at.rows.runs())
                    for (index_t in_run = 0; in_run < r.count; ++in_run, ++i) {
                        score_row<A>(how, q.view.at(b, i, h), q.view.step().dim, r[in_run], keys, b, g, plan, where, s,
                                     std::span<A>(x));
                        const A max = highest(x) * std::numbers::log2e_v<A>;
                        A sum = 0;
                        std::ranges::fill(acc, A{});
                        for (std::size_t j = 0; j < x.size(); ++j) {
                            if (x[j] == -std::numeric_limits<A>::infinity()) continue; // not seen, or of no weight
                            const A p = std::exp2(x[j] * std::numbers::log2e_v<A> - max);
                            const tensor_view<const T>& v = keys[where[j].source].v;
                            const T* value = v.at(b, where[j].row, g);
                            for (index_t d = 0; d < dim_v; ++d)
                                acc[static_cast<std::size_t>(d)] += p * static_cast<A>(value[d * v.step().dim]);
                            sum += p;
                        }
                        into.fold(b, i, h, max, sum, acc.data());
                        if (how.progress != nullptr) (*how.progress)();
                    }
            }
    }

    /// The gradients, from the scores once more and lse:
    ///
    ///     P_ij = exp(x_ij - lse_i)        dS_ij = P_ij (dout_i . v_j - delta_i)        for the keys j that row i sees
    ///     dq_i += scale sum_j dS_ij k_j      dk_j += scale sum_i dS_ij q_i      dv_j += sum_i P_ij dout_i
    template <real_element T, score S>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        using A = accumulator_t<T>;
        if (keys.empty()) return;
        std::vector<positions> sources;
        for (const key_block<T>& block : keys) sources.push_back(block.at.rows);
        const interleaved plan = interleave(sources);
        const auto where = places(plan, how.memory);
        std::pmr::vector<A> x(where.size(), A{}, how.memory);
        const extents e = q.view.shape();

        for (index_t b = 0; b < e.batch; ++b)
            for (index_t h = 0; h < e.heads; ++h) {
                const index_t g = how.kv_head(q.at.heads, h, keys.front().at.heads);
                index_t i = 0;
                for (const run& r : q.at.rows.runs())
                    for (index_t in_run = 0; in_run < r.count; ++in_run, ++i) {
                        if (how.progress != nullptr) (*how.progress)();
                        const A lse = rows.lse(b, i, h);
                        if (lse == -std::numeric_limits<A>::infinity()) continue; // the row has seen nothing
                        score_row<A>(how, q.view.at(b, i, h), q.view.step().dim, r[in_run], keys, b, g, plan, where, s,
                                     std::span<A>(x));
                        for (std::size_t j = 0; j < x.size(); ++j) {
                            if (x[j] == -std::numeric_limits<A>::infinity()) continue; // not seen, or of no weight
                            add_pair(static_cast<A>(how.scale), std::exp(x[j] - lse), q.view, rows, b, i, h,
                                     keys[where[j].source], where[j].row, g, dq, dkv[where[j].source]);
                        }
                    }
            }
    }

    /// Scratch of backward: where each key lies and one row of scores.
    template <real_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents&, const extents&, std::span<const positions> keys,
                                                       int) const {
        std::size_t count = 0;
        for (const positions& p : keys) count += static_cast<std::size_t>(p.size());
        return count * (sizeof(key_place) + sizeof(accumulator_t<T>));
    }

    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents&, const extents& v, std::span<const positions> keys,
                                              int) const {
        std::size_t count = 0;
        for (const positions& p : keys) count += static_cast<std::size_t>(p.size());
        return count * (sizeof(key_place) + sizeof(accumulator_t<T>)) +
               static_cast<std::size_t>(v.dim) * sizeof(accumulator_t<T>);
    }

    [[nodiscard]] std::string name() const { return "reference"; }

    /// The largest element; NaN if there is one.
    template <class Range>
    [[nodiscard]] static auto highest(const Range& x) {
        typename Range::value_type top = -std::numeric_limits<typename Range::value_type>::infinity();
        for (const auto value : x)
            if (value > top || value != value) top = value;
        return top;
    }

private:
    /// What row i and key j, which has weight p in it, add to the gradients of each other.
    template <class A, class T>
    static void add_pair(A scale, A p, const tensor_view<const T>& q, const row_gradients<T>& rows, index_t b,
                         index_t i, index_t h, const key_block<T>& key, index_t j, index_t g, const tensor_view<A>& dq,
                         const key_gradients<A>& dkv) {
        A dp = 0;
        for (index_t d = 0; d < key.v.shape().dim; ++d)
            dp += static_cast<A>(rows.dout(b, i, h, d)) * static_cast<A>(key.v(b, j, g, d));
        const A ds = scale * p * (dp - rows.delta(b, i, h));
        for (index_t d = 0; d < key.k.shape().dim; ++d) {
            dq(b, i, h, d) += ds * static_cast<A>(key.k(b, j, g, d));
            dkv.dk(b, j, g, d) += ds * static_cast<A>(q(b, i, h, d));
        }
        for (index_t d = 0; d < key.v.shape().dim; ++d) dkv.dv(b, j, g, d) += p * static_cast<A>(rows.dout(b, i, h, d));
    }
};
static_assert(kernel<reference> && kernel<reference, double> && kernel<reference, bfloat16>);

} // namespace seqpar
