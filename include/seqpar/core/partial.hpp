#pragma once

#include <seqpar/core/executor.hpp>
#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <memory_resource>
#include <numbers>

namespace seqpar {

/// A softmax that has seen some of its keys: for each row and head
///
///     max   a reference for the scores x_j seen so far, in units of log2 (x = score * log2 e)
///     sum   sum_j exp2(x_j - max)
///     acc   sum_j exp2(x_j - max) v_j
///
/// Partials form a commutative monoid: the identity is (0, -inf, 0), merge is associative, and the triple means the same
/// softmax for every finite reference `max`, so a kernel may choose one that is near the maximum and not the maximum itself.
/// (Milakov and Gimelshein 2018, arXiv:1805.02867; Rabe and Staats 2021, arXiv:2112.05682.)
///
/// A is the accumulation type. acc: [batch, rows, heads, dim of v]; max and sum: [batch, rows, heads, 1].
template <element A>
class partial {
public:
    /// Accumulators of a row beside acc.
    static constexpr index_t scalars = 2;
    /// What finish() writes as the lse of a row that has seen nothing.
    static constexpr A nothing = [] {
        if constexpr (real_element<A>)
            return -std::numeric_limits<A>::infinity();
        else
            return A{};
    }();

    /// The identity. `shape` is the shape of the output: [batch, rows, heads, dim of v].
    explicit partial(const extents& shape, std::pmr::memory_resource* memory = std::pmr::get_default_resource())
        : acc_(shape, format::bshd, memory), max_(per_row(shape), format::bshd, memory),
          sum_(per_row(shape), format::bshd, memory) {
        if constexpr (real_element<A>)
            std::fill_n(max_.data(), max_.shape().count(), -std::numeric_limits<A>::infinity());
    }

    /// Bytes that a partial of this shape holds.
    [[nodiscard]] static std::size_t bytes(const extents& shape) noexcept {
        return tensor<A>::bytes(shape) + static_cast<std::size_t>(scalars) * tensor<A>::bytes(per_row(shape));
    }

    [[nodiscard]] const extents& shape() const noexcept { return acc_.shape(); }
    [[nodiscard]] tensor_view<A> acc() noexcept { return acc_.view(); }
    [[nodiscard]] tensor_view<A> max() noexcept { return max_.view(); }
    [[nodiscard]] tensor_view<A> sum() noexcept { return sum_.view(); }
    [[nodiscard]] tensor_view<const A> acc() const noexcept { return acc_.view(); }
    [[nodiscard]] tensor_view<const A> max() const noexcept { return max_.view(); }
    [[nodiscard]] tensor_view<const A> sum() const noexcept { return sum_.view(); }

    /// Takes in the keys that `other` has seen. O(rows * heads * dim).
    void merge(const partial& other) {
        if constexpr (real_element<A>) {
            for_each_row([&](index_t b, index_t s, index_t h) {
                fold(b, s, h, other.max()(b, s, h), other.sum()(b, s, h), other.acc().at(b, s, h));
            });
        }
    }

    /// Takes in keys whose softmax is finished: what finish() writes for them in the accumulation type. out: [batch, rows,
    /// heads, dim], dense in dim; lse: [batch, rows, heads, 1]. O(rows * heads * dim).
    void merge(const tensor_view<const A>& out, const tensor_view<const A>& lse) {
        assert(out.shape() == shape() && lse.shape() == per_row(shape()) && (out.step().dim == 1 || shape().dim <= 1));
        if constexpr (real_element<A>) {
            for_each_row([&](index_t b, index_t s, index_t h) {
                const A total = lse(b, s, h);
                const bool empty = total == -std::numeric_limits<A>::infinity();
                fold(b, s, h, total * std::numbers::log2e_v<A>, empty ? A{0} : A{1}, out.at(b, s, h));
            });
        }
    }

    /// Takes in one row's (acc, max, sum) of some keys. `acc` has dim elements.
    void fold(index_t b, index_t s, index_t h, A other_max, A other_sum, const A* other_acc) requires real_element<A> {
        if (other_sum == 0) return; // the identity, whatever its max; NaN is not equal to zero and goes on
        A& max = max_(b, s, h);
        A& sum = sum_(b, s, h);
        A* acc = acc_.view().at(b, s, h);
        const A top = std::max(max, other_max);
        const A mine = max == top ? A{1} : std::exp2(max - top);
        const A theirs = other_max == top ? A{1} : std::exp2(other_max - top);
        for (index_t d = 0; d < shape().dim; ++d) acc[d] = acc[d] * mine + other_acc[d] * theirs;
        sum = sum * mine + other_sum * theirs;
        max = top;
    }

    /// Takes in, for every row of a head, a key of this score (natural units) whose value row is zero. -inf: nothing.
    void add_logit(index_t h, double score) requires real_element<A> {
        if (score == -std::numeric_limits<double>::infinity()) return;
        const A x = static_cast<A>(score * std::numbers::log2e);
        for (index_t b = 0; b < shape().batch; ++b)
            for (index_t s = 0; s < shape().seq; ++s) {
                A& max = max_(b, s, h);
                A& sum = sum_(b, s, h);
                const A top = std::max(max, x), mine = max == top ? A{1} : std::exp2(max - top);
                A* acc = acc_.view().at(b, s, h);
                for (index_t d = 0; d < shape().dim; ++d) acc[d] *= mine;
                sum = sum * mine + (x == top ? A{1} : std::exp2(x - top));
                max = top;
            }
    }

    /// Writes the softmax: out = acc / sum and, unless lse is a default view (dim 0), lse = ln sum_j exp(score_j).
    /// A row that has seen nothing gets out = 0, lse = -inf. out: [batch, rows, heads, dim], any strides and storage
    /// type; lse: [batch, rows, heads, 1], natural logarithm, in the accumulation type.
    /// Rows are shared among the executor's workers.
    template <class T>
    void finish(const tensor_view<T>& out, const tensor_view<A>& lse, executor_ref threads = {}) const {
        if constexpr (real_element<A>) {
            for_each_row(threads, [&](index_t b, index_t s, index_t h) {
                const A total = sum_(b, s, h);
                const A* acc = acc_.view().at(b, s, h);
                T* to = out.at(b, s, h);
                const index_t dim = shape().dim, step = out.step().dim;
                if (total == 0) {
                    for (index_t d = 0; d < dim; ++d) to[d * step] = T{};
                } else {
                    const A share = A{1} / total; // dividing by each would take longer than all else here
                    index_t d = 0;
                    if (step == 1)
                        for (; d + 16 <= dim; d += 16) multiply_16(acc + d, share, to + d);
                    for (; d < dim; ++d) to[d * step] = static_cast<T>(acc[d] * share);
                }
                if (lse.shape().dim != 0)
                    lse(b, s, h) = total == 0 ? -std::numeric_limits<A>::infinity()
                                              : (max_(b, s, h) + std::log2(total)) * std::numbers::ln2_v<A>;
            });
        }
    }

private:
    /// In pieces of a fixed size, through an array that nothing else may point to: compilers make vectors of it at -O2.
    template <class T>
    static void multiply_16(const A* from, A by, T* to) noexcept {
        A part[16];
        for (int i = 0; i < 16; ++i) part[i] = from[i] * by;
        for (int i = 0; i < 16; ++i) to[i] = static_cast<T>(part[i]);
    }

    [[nodiscard]] static extents per_row(const extents& e) noexcept { return {e.batch, e.seq, e.heads, 1}; }

    template <class F>
    void for_each_row(executor_ref threads, const F& f) const {
        constexpr index_t rows = 64; // of an item
        const index_t items = (shape().seq + rows - 1) / rows;
        threads.run(shape().batch * items, [&](index_t item, int) {
            const index_t first = item % items * rows, end = std::min(first + rows, shape().seq);
            for (index_t s = first; s < end; ++s)
                for (index_t h = 0; h < shape().heads; ++h) f(item / items, s, h);
        });
    }
    template <class F>
    void for_each_row(const F& f) const {
        for (index_t b = 0; b < shape().batch; ++b)
            for (index_t s = 0; s < shape().seq; ++s)
                for (index_t h = 0; h < shape().heads; ++h) f(b, s, h);
    }

    tensor<A> acc_, max_, sum_;
};

} // namespace seqpar
