#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/core/block.hpp>
#include <seqpar/core/partial.hpp>
#include <seqpar/core/placement.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/plan/cost.hpp>
#include <seqpar/score/parts.hpp>
#include <seqpar/score/rows_seen.hpp>

#include <concepts>
#include <span>
#include <string>

namespace seqpar {

/// What one rank brings to an attention and what it takes away.
template <element T>
struct operands {
    tensor_view<const T> q;              // [batch, rows, heads, head_dim]
    tensor_view<const T> k;              // [batch, key rows, kv_heads, head_dim]
    tensor_view<const T> v;              // [batch, key rows, kv_heads, head_dim of v]
    tensor_view<T> out;                  // [batch, rows, heads, head_dim of v]
    tensor_view<accumulator_t<T>> lse{}; // [batch, rows, heads, 1], or a default view: not wanted, on any rank

    [[nodiscard]] bool wants_lse() const noexcept { return lse.shape().dim != 0; }
};

/// What a rank brings to backward beside q, k and v of its operands, and what it takes away.
template <element T>
struct gradients {
    row_gradients<T> rows;            ///< of this rank's rows: dout, lse, delta
    bool into_lse = false;            ///< delta holds a gradient that flows into lse, so out and dout do not give it
    bool complete = true;             ///< nothing will be added to dk and dv once they are here: they may travel in T
    tensor_view<accumulator_t<T>> dq; ///< [batch, rows, heads, head_dim], added to
    tensor_view<accumulator_t<T>> dk; ///< [batch, key rows, kv_heads, head_dim], added to
    tensor_view<accumulator_t<T>> dv; ///< [batch, key rows, kv_heads, head_dim of v], added to
};

/// How blocks are computed: the kernel, the score, and what both need to know.
template <class Kernel, class Score>
struct local_attention {
    Kernel kernel;
    Score score;
    context how;

    /// Folds keys into `seen` while `travelling` (a request, or anything with a test()) is kept moving.
    template <element T, class Travelling>
    void fold(const block<const T>& q, std::span<const key_block<T>> keys, partial<accumulator_t<T>>& seen,
              Travelling& travelling) const {
        while_moving(travelling, [&](const context& polling) { kernel.forward(polling, q, keys, score, seen); });
    }

    /// Adds the gradients that keys cause, while `travelling` is kept moving.
    template <element T, class Travelling>
    void fold_back(const block<const T>& q, const row_gradients<T>& rows, std::span<const key_block<T>> keys,
                   const tensor_view<accumulator_t<T>>& dq, std::span<const key_gradients<accumulator_t<T>>> dkv,
                   Travelling& travelling) const {
        while_moving(travelling,
                     [&](const context& polling) { kernel.backward(polling, q, rows, keys, score, dq, dkv); });
    }

    /// The end of the softmax of this rank's rows, once it has seen all keys: the sinks join it, each once, and it is
    /// written to x.out and x.lse.
    template <element T>
    void finish(partial<accumulator_t<T>>& seen, const origin& queries, const operands<T>& x) const {
        if constexpr (real_element<T>)
            for (index_t h = 0; h < queries.heads.count && sinks_of(score) > 0; ++h)
                seen.add_logit(h, logit_of(score, queries.heads.first + h));
        seen.finish(x.out, x.lse, how.executor);
    }

    /// Whether some of these queries may see some of these keys, and which keys those are.
    [[nodiscard]] bool sees(const origin& queries, const origin& keys) const {
        return may_see(score, how.n, queries.rows, keys.rows);
    }
    [[nodiscard]] row_selection seen(const origin& queries, const origin& keys) const {
        return rows_seen(score, how.n, queries.rows, keys.rows);
    }

private:
    template <class Travelling, class Compute>
    void while_moving(Travelling& travelling, const Compute& compute) const {
        const auto poll = [&] {
            static_cast<void>(travelling.test());
            if (how.progress != nullptr) (*how.progress)();
        };
        const function_ref<void()> hook(poll);
        context polling = how;
        polling.progress = &hook;
        compute(polling);
    }
};

/// Nothing travels.
struct nothing {
    static constexpr bool test() noexcept { return true; }
};

/// A bound strategy that has a backward for T.
template <class Bound, class T, class Local>
concept differentiable = requires(Bound& b, const Local& local, std::span<const placement> where, const operands<T>& x,
                                  const gradients<T>& g, const typename Bound::template saved<T>& kept) {
    b.template backward<T>(local, where, x, g, kept);
};

/// How the ranks share one attention. It moves blocks and never touches an element.
///
/// For a model S with a value s:
///   1. s.name() is a std::string, equal for equal strategies.
///   2. s.check(size) throws `refusal` if s cannot run on that many ranks.
///   3. s.on(comm), collective, binds it to a communicator. The result b holds what is worth keeping between calls, and
///      b.forward(local, where, x), collective, computes: `local` a local_attention, `where` the placement of every rank
///      of comm (std::span<const placement>), x this rank's operands<T>.
///   4. optional: decltype(b)::saved<T>, default-made: what forward keeps for backward. b.forward(local, where, x, &kept)
///      keeps what it has moved; b.backward(local, where, x, g, kept), collective, adds to g.dq, g.dk, g.dv this rank's
///      rows of the gradients of the global function. With a default-made `kept` it moves again what it needs.
///   5. s.predict(problem, rank) is the plan::cost of forward, as integers, and s.predict_backward(problem, rank) that of
///      backward, where there is one.
template <class S>
concept strategy = std::copyable<S> && requires(const S& s, int size, const plan::problem& p) {
    { s.name() } -> std::convertible_to<std::string>;
    s.check(size);
    { s.predict(p, size) } -> std::same_as<plan::cost>;
};

/// A strategy that can run on this communicator.
template <class S, class C>
concept strategy_on = strategy<S> && communicator<C> && requires(const S& s, C& comm) {
    s.on(comm);
};

} // namespace seqpar
