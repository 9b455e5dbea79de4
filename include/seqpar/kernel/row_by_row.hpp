#pragma once

#include <seqpar/core/interleave.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/score/parts.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory_resource>
#include <span>
#include <vector>

namespace seqpar::detail {

/// One row with every key of a union.
template <class C>
struct row_weights {
    std::pmr::vector<C> x;     ///< scores; -inf where the row does not see the key
    std::pmr::vector<C> slope; ///< derivatives of x by scale q . k
    std::pmr::vector<C> z;     ///< what dropout multiplies the weight by

    row_weights(std::size_t keys, std::pmr::memory_resource* memory)
        : x(keys, memory), slope(keys, memory), z(keys, memory) {}
    [[nodiscard]] static std::size_t bytes(std::size_t keys) noexcept { return 3 * keys * sizeof(C); }
};

/// Attention of one row at a time with all keys of some blocks, in the order of interleave(). What a row and a key do to
/// each other is computed in C.
template <class C, real_element T, score S>
class row_by_row {
    struct key_place {
        std::size_t source;
        index_t row;
    };

public:
    row_by_row(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s)
        : how_(how), q_(q), keys_(keys), score_(s), plan_(interleave(rows_of<T>(keys))),
          places_(static_cast<std::size_t>(plan_.rows.size()), how.memory) {
        for (const segment& part : plan_.segments)
            for (index_t i = 0; i < part.count; ++i)
                places_[static_cast<std::size_t>(part.to + i * part.every)] = {part.source, part.from + i};
    }

    /// Bytes of it and of the weights of so many workers, for keys at those positions.
    [[nodiscard]] static std::size_t bytes(std::span<const positions> keys, int workers) {
        std::size_t count = 0;
        for (const positions& p : keys) count += static_cast<std::size_t>(p.size());
        return count * sizeof(key_place) + static_cast<std::size_t>(workers) * row_weights<C>::bytes(count);
    }

    [[nodiscard]] std::size_t keys() const noexcept { return places_.size(); }
    /// Query head h of the block, as a global one.
    [[nodiscard]] index_t head(index_t h) const noexcept { return q_.at.heads.first + h; }

    /// The weights of row i, which is at `at`. Without `derive`, slope is left as it is.
    void weigh(index_t b, index_t h, index_t i, position at, bool derive, row_weights<C>& w) const {
        std::ranges::fill(w.x, -std::numeric_limits<C>::infinity());
        std::ranges::fill(w.z, C{1});
        if (derive) std::ranges::fill(w.slope, C{1});
        const index_t g = kv_head(h);
        index_t begin = 0; // of the run among the keys
        for (const run& r : plan_.rows.runs()) {
            const interval seen = score_.visible(how_.n, at, r) & interval{0, r.count};
            for (index_t j = begin + seen.first; j < begin + seen.last; ++j) {
                const auto& [source, row] = places_[static_cast<std::size_t>(j)];
                C dot = 0;
                for (index_t d = 0; d < q_.view.shape().dim; ++d)
                    dot += static_cast<C>(q_.view(b, i, h, d)) * static_cast<C>(keys_[source].k(b, row, g, d));
                w.x[static_cast<std::size_t>(j)] = static_cast<C>(how_.scale) * dot;
            }
            if (!seen.empty() && changes_values(score_)) {
                const score_row row{how_.n, how_.first_batch + b, head(h), at,
                                    run{r[seen.first], r.stride, seen.last - seen.first}};
                modify(score_, row, part(w.x, begin, seen), derive ? part(w.slope, begin, seen) : std::span<C>{});
                if (drops(score_)) drop(score_, row, part(w.z, begin, seen));
            }
            begin += r.count;
        }
    }

    /// v of the j-th key, in dimension d, for query head h of the block.
    [[nodiscard]] C value(std::size_t j, index_t b, index_t h, index_t d) const {
        return static_cast<C>(keys_[places_[j].source].v(b, places_[j].row, kv_head(h), d));
    }

    /// Adds the gradients that row i and its keys cause in each other, from the scores once more and lse:
    ///
    ///     P_ij = exp(x_ij - lse_i)        dS_ij = P_ij (z_ij dout_i . v_j - delta_i)     for the keys j that row i sees
    ///     dv_j += sum_i z_ij P_ij dout_i       dq_i += scale sum_j slope_ij dS_ij k_j       dk_j likewise
    template <element A>
    void add_gradients(const row_gradients<T>& rows, index_t b, index_t h, index_t i, position at,
                       const tensor_view<A>& dq, std::span<const key_gradients<A>> dkv, row_weights<C>& w) const {
        const C lse = static_cast<C>(rows.lse(b, i, h));
        if (lse == -std::numeric_limits<C>::infinity()) return; // the row has seen nothing
        weigh(b, h, i, at, true, w);
        std::size_t j = 0;
        for (const run& r : plan_.rows.runs())
            for (index_t n = 0; n < r.count; ++n, ++j) {
                if (w.x[j] == -std::numeric_limits<C>::infinity()) continue; // not seen, or of no weight
                const C ds =
                    add_pair(rows, b, h, i, j, std::exp(w.x[j] - lse), w.slope[j], w.z[j], dq, dkv[places_[j].source]);
                if (!how_.slope_gradients.empty())
                    how_.slope_gradients[static_cast<std::size_t>(head(h))] += slope_gradient(
                        score_, {how_.n, how_.first_batch + b, head(h), at, run{r[n], r.stride, 1}}, std::span(&ds, 1));
            }
    }

private:
    [[nodiscard]] index_t kv_head(index_t h) const noexcept {
        return how_.kv_head(q_.at.heads, h, keys_.front().at.heads);
    }
    [[nodiscard]] static std::span<C> part(std::pmr::vector<C>& of, index_t begin, interval i) noexcept {
        return std::span<C>(of).subspan(static_cast<std::size_t>(begin + i.first),
                                        static_cast<std::size_t>(i.last - i.first));
    }

    /// What row i and the j-th key, which has weight p in it, add to the gradients of each other. Returns dS.
    template <class A>
    C add_pair(const row_gradients<T>& rows, index_t b, index_t h, index_t i, std::size_t j, C p, C slope, C z,
               const tensor_view<A>& dq, const key_gradients<A>& dkv) const {
        const index_t g = kv_head(h), row = places_[j].row;
        const tensor_view<const T>& k = keys_[places_[j].source].k;
        const index_t dim = k.shape().dim, dim_v = rows.dout.shape().dim;
        C dp = 0;
        for (index_t d = 0; d < dim_v && z != 0; ++d) dp += static_cast<C>(rows.dout(b, i, h, d)) * value(j, b, h, d);
        const C ds = p * (z * dp - static_cast<C>(rows.delta(b, i, h))), dx = static_cast<C>(how_.scale) * slope * ds;
        for (index_t d = 0; d < dim; ++d) {
            dq(b, i, h, d) += dx * static_cast<C>(k(b, row, g, d));
            dkv.dk(b, row, g, d) += dx * static_cast<C>(q_.view(b, i, h, d));
        }
        for (index_t d = 0; d < dim_v && z != 0; ++d)
            dkv.dv(b, row, g, d) += z * p * static_cast<C>(rows.dout(b, i, h, d));
        return ds;
    }

    const context& how_;
    const block<const T>& q_;
    std::span<const key_block<T>> keys_;
    const S& score_;
    interleaved plan_;
    std::pmr::vector<key_place> places_;
};

/// f(batch, row of the block, its position).
template <class T, class F>
void for_each_row(const block<const T>& q, const F& f) {
    for (index_t b = 0; b < q.view.shape().batch; ++b) {
        index_t i = 0;
        for (const run& r : q.at.rows.runs())
            for (index_t n = 0; n < r.count; ++n, ++i) f(b, i, r[n]);
    }
}

} // namespace seqpar::detail
