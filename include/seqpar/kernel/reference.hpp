#pragma once

#include <seqpar/core/interleave.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/score/parts.hpp>

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
///     x_ij = score(scale * q_i . k_j)          for the keys j that row i sees
///     out_i = sum_j z_ij exp(x_ij - max_i) v_j / sum_j exp(x_ij - max_i)          z: what dropout says, else 1
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

    /// One row with every key of a union.
    template <class A>
    struct weights {
        std::pmr::vector<A> x;     ///< scores; -inf where the row does not see the key
        std::pmr::vector<A> slope; ///< derivatives of x by scale q . k
        std::pmr::vector<A> z;     ///< what dropout multiplies the weight by

        weights(std::size_t keys, std::pmr::memory_resource* memory)
            : x(keys, memory), slope(keys, memory), z(keys, memory) {}
        [[nodiscard]] static std::size_t bytes(std::size_t keys) noexcept { return 3 * keys * sizeof(A); }
    };

    /// The weights of one row. q points to its head_dim elements, q_step apart; `head` is global. Without `derive`, slope
    /// is left as it is.
    template <class A, class T, score S>
    static void weigh(const context& how, const T* q, index_t q_step, position at, std::span<const key_block<T>> keys,
                      index_t b, index_t head, const interleaved& plan, std::span<const key_place> places, const S& s,
                      bool derive, weights<A>& w) {
        const index_t kv_head = head / how.group - keys.front().at.heads.first;
        std::ranges::fill(w.x, -std::numeric_limits<A>::infinity());
        std::ranges::fill(w.z, A{1});
        if (derive) std::ranges::fill(w.slope, A{1});
        index_t begin = 0; // of the run among the keys
        for (const run& r : plan.rows.runs()) {
            const interval seen = s.visible(how.n, at, r) & interval{0, r.count};
            for (index_t i = seen.first; i < seen.last; ++i) {
                const std::size_t j = static_cast<std::size_t>(begin + i);
                const tensor_view<const T>& k = keys[places[j].source].k;
                const T* key = k.at(b, places[j].row, kv_head);
                A dot = 0;
                for (index_t d = 0; d < k.shape().dim; ++d)
                    dot += static_cast<A>(q[d * q_step]) * static_cast<A>(key[d * k.step().dim]);
                w.x[j] = static_cast<A>(how.scale) * dot;
            }
            if (!seen.empty() && changes_values(s)) {
                const score_row row{how.n, how.first_batch + b, head, at,
                                    run{r[seen.first], r.stride, seen.last - seen.first}};
                modify(s, row, part(w.x, begin, seen), derive ? part(w.slope, begin, seen) : std::span<A>{});
                if (drops(s)) drop(s, row, part(w.z, begin, seen));
            }
            begin += r.count;
        }
    }

    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        using A = accumulator_t<T>;
        if (keys.empty()) return;
        const interleaved plan = interleave(positions_of(keys));
        const auto where = places(plan, how.memory);
        weights<A> w(where.size(), how.memory);
        const index_t dim_v = into.shape().dim;
        std::pmr::vector<A> acc(static_cast<std::size_t>(dim_v), A{}, how.memory);

        for_each_row(q, [&](index_t b, index_t h, index_t i, position at) {
            const index_t g = how.kv_head(q.at.heads, h, keys.front().at.heads);
            weigh<A>(how, q.view.at(b, i, h), q.view.step().dim, at, keys, b, q.at.heads.first + h, plan, where, s,
                     false, w);
            const A max = highest(w.x) * std::numbers::log2e_v<A>;
            A sum = 0;
            std::ranges::fill(acc, A{});
            for (std::size_t j = 0; j < w.x.size(); ++j) {
                if (w.x[j] == -std::numeric_limits<A>::infinity()) continue; // not seen, or of no weight
                const A p = std::exp2(w.x[j] * std::numbers::log2e_v<A> - max);
                sum += p;
                if (w.z[j] == 0) continue; // dropped
                const tensor_view<const T>& v = keys[where[j].source].v;
                const T* value = v.at(b, where[j].row, g);
                for (index_t d = 0; d < dim_v; ++d)
                    acc[static_cast<std::size_t>(d)] += w.z[j] * p * static_cast<A>(value[d * v.step().dim]);
            }
            into.fold(b, i, h, max, sum, acc.data());
            if (how.progress != nullptr) (*how.progress)();
        });
    }

    /// The gradients, from the scores once more and lse:
    ///
    ///     P_ij = exp(x_ij - lse_i)        dS_ij = P_ij (z_ij dout_i . v_j - delta_i)     for the keys j that row i sees
    ///     dv_j += sum_i z_ij P_ij dout_i       dq_i += scale sum_j slope_ij dS_ij k_j       dk_j likewise
    template <real_element T, differentiable_score S>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        using A = accumulator_t<T>;
        if (keys.empty()) return;
        const interleaved plan = interleave(positions_of(keys));
        const auto where = places(plan, how.memory);
        weights<A> w(where.size(), how.memory);

        for_each_row(q, [&](index_t b, index_t h, index_t i, position at) {
            if (how.progress != nullptr) (*how.progress)();
            const A lse = rows.lse(b, i, h);
            if (lse == -std::numeric_limits<A>::infinity()) return; // the row has seen nothing
            const index_t head = q.at.heads.first + h, g = how.kv_head(q.at.heads, h, keys.front().at.heads);
            weigh<A>(how, q.view.at(b, i, h), q.view.step().dim, at, keys, b, head, plan, where, s, true, w);
            for (std::size_t j = 0; j < w.x.size(); ++j) {
                if (w.x[j] == -std::numeric_limits<A>::infinity()) {
                    w.x[j] = 0; // not seen, or of no weight
                    continue;
                }
                w.x[j] = add_pair(static_cast<A>(how.scale), std::exp(w.x[j] - lse), w.z[j], w.slope[j], q.view, rows,
                                  b, i, h, keys[where[j].source], where[j].row, g, dq, dkv[where[j].source]);
            }
            if (!how.slope_gradients.empty())
                how.slope_gradients[static_cast<std::size_t>(head)] += slope_sum(how, plan, s, b, head, at, w.x);
        });
    }

    /// Scratch of backward: where each key lies and one row of weights.
    template <real_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents&, const extents&, std::span<const positions> keys,
                                                       int) const {
        std::size_t count = 0;
        for (const positions& p : keys) count += static_cast<std::size_t>(p.size());
        return count * sizeof(key_place) + weights<accumulator_t<T>>::bytes(count);
    }

    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                              int workers) const {
        return backward_workspace_bytes<T>(q, v, keys, workers) +
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
    template <class A>
    [[nodiscard]] static std::span<A> part(std::pmr::vector<A>& of, index_t begin, interval i) noexcept {
        return std::span<A>(of).subspan(static_cast<std::size_t>(begin + i.first),
                                        static_cast<std::size_t>(i.last - i.first));
    }

    template <class T>
    [[nodiscard]] static std::vector<positions> positions_of(std::span<const key_block<T>> keys) {
        std::vector<positions> all;
        for (const key_block<T>& b : keys) all.push_back(b.at.rows);
        return all;
    }

    /// f(batch, head of the block, row of the block, its position).
    template <class T, class F>
    static void for_each_row(const block<const T>& q, const F& f) {
        for (index_t b = 0; b < q.view.shape().batch; ++b)
            for (index_t h = 0; h < q.view.shape().heads; ++h) {
                index_t i = 0;
                for (const run& r : q.at.rows.runs())
                    for (index_t in_run = 0; in_run < r.count; ++in_run, ++i) f(b, h, i, r[in_run]);
            }
    }

    /// What row i and key j, which has weight p in it, add to the gradients of each other. Returns dS.
    template <class A, class T>
    static A add_pair(A scale, A p, A z, A slope, const tensor_view<const T>& q, const row_gradients<T>& rows,
                      index_t b, index_t i, index_t h, const key_block<T>& key, index_t j, index_t g,
                      const tensor_view<A>& dq, const key_gradients<A>& dkv) {
        A dp = 0;
        for (index_t d = 0; d < key.v.shape().dim && z != 0; ++d)
            dp += static_cast<A>(rows.dout(b, i, h, d)) * static_cast<A>(key.v(b, j, g, d));
        const A ds = p * (z * dp - rows.delta(b, i, h)), dx = scale * slope * ds;
        for (index_t d = 0; d < key.k.shape().dim; ++d) {
            dq(b, i, h, d) += dx * static_cast<A>(key.k(b, j, g, d));
            dkv.dk(b, j, g, d) += dx * static_cast<A>(q(b, i, h, d));
        }
        for (index_t d = 0; d < key.v.shape().dim && z != 0; ++d)
            dkv.dv(b, j, g, d) += z * p * static_cast<A>(rows.dout(b, i, h, d));
        return ds;
    }

    /// What a row adds to the gradient of its head's slope.
    template <class A, score S>
    [[nodiscard]] static double slope_sum(const context& how, const interleaved& plan, const S& s, index_t b,
                                          index_t head, position at, const std::pmr::vector<A>& ds) {
        double sum = 0;
        std::size_t begin = 0;
        for (const run& r : plan.rows.runs()) {
            const std::size_t count = static_cast<std::size_t>(r.count);
            sum += slope_gradient(s, {how.n, how.first_batch + b, head, at, r},
                                  std::span<const A>(ds).subspan(begin, count));
            begin += count;
        }
        return sum;
    }
};
static_assert(kernel<reference> && kernel<reference, double> && kernel<reference, bfloat16>);

} // namespace seqpar
