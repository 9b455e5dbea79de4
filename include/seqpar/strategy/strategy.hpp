#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/core/block.hpp>
#include <seqpar/core/partial.hpp>
#include <seqpar/core/placement.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/plan/cost.hpp>

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
        const auto poll = [&] {
            static_cast<void>(travelling.test());
            if (how.progress != nullptr) (*how.progress)();
        };
        const function_ref<void()> hook(poll);
        context polling = how;
        polling.progress = &hook;
        kernel.forward(polling, q, keys, score, seen);
    }
};

/// Nothing travels.
struct nothing {
    static constexpr bool test() noexcept { return true; }
};

/// How the ranks share one attention. It moves blocks and never touches an element.
///
/// For a model S with a value s:
///   1. s.name() is a std::string, equal for equal strategies.
///   2. s.check(size) throws `refusal` if s cannot run on that many ranks.
///   3. s.on(comm), collective, binds it to a communicator. The result b holds what is worth keeping between calls, and
///      b.forward(local, where, x), collective, computes: `local` a local_attention, `where` the placement of every rank
///      of comm (std::span<const placement>), x this rank's operands<T>.
///   4. s.predict(problem, rank) is the plan::cost of forward, as integers.
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
