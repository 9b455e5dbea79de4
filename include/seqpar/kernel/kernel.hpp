#pragma once

#include <seqpar/core/binned_sum.hpp>
#include <seqpar/core/block.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/core/function_ref.hpp>
#include <seqpar/core/partial.hpp>
#include <seqpar/score/full.hpp>

#include <concepts>
#include <cstddef>
#include <memory_resource>
#include <span>
#include <string>

namespace seqpar {

/// What a kernel needs to know beside its blocks.
struct context {
    double scale = 1;  ///< factor of q . k
    lengths n;         ///< rows of the whole sequence: the frame of all positions
    index_t group = 1; ///< query heads per kv head: global query head h reads global kv head h / group
    executor_ref executor;
    std::pmr::memory_resource* memory = std::pmr::get_default_resource(); ///< all scratch comes from here
    const function_ref<void()>* progress =
        nullptr;                                ///< called now and then by the calling thread, so that messages move
    index_t first_batch = 0;                    ///< global index of q's first batch entry: what a score_row counts from
    std::span<binned_sum> slope_gradients = {}; ///< [heads], global: backward adds those of slopes; empty: not wanted

    /// Which of the kv heads of a block the h-th query head of another one reads.
    [[nodiscard]] index_t kv_head(const head_range& queries, index_t h, const head_range& keys) const noexcept {
        return (queries.first + h) / group - keys.first;
    }
};

/// What backward knows of the rows of a block of q beside q itself, all of the whole softmax, over all keys.
template <element T>
struct row_gradients {
    tensor_view<const T> dout;               ///< [batch, rows, heads, head_dim of v]
    tensor_view<const accumulator_t<T>> lse; ///< [batch, rows, heads, 1]; -inf: the row has seen nothing
    tensor_view<const accumulator_t<T>>
        delta; ///< [batch, rows, heads, 1]: row sums of dout * out, less the gradient into lse
};

/// Where the gradients of one key_block are added: unfinished sums, in the accumulation type.
template <element A>
struct key_gradients {
    tensor_view<A> dk; ///< [batch, rows, kv_heads, head_dim]
    tensor_view<A> dv; ///< [batch, rows, kv_heads, head_dim of v]
};

/// The element that blocks of T have for the kernel K, and strategies run on: K::element<T> where a kernel has a say in how
/// sums are kept, else T.
template <class K, class T>
struct kernel_element {
    using type = T;
};
template <class K, class T>
    requires requires { typename K::template element<T>; }
struct kernel_element<K, T> {
    using type = typename K::template element<T>;
};
template <class K, class T>
using kernel_element_t = typename kernel_element<K, T>::type;

/// Computes attention of blocks. It touches elements and never knows a rank.
///
/// For a model K with a value k and an element type T that it takes, A = accumulator_t<T>:
///   1. k.forward(context, q, keys, score, into) folds the keys of `keys` into `into`, the partial of the rows of q:
///        q     block<const T>, [batch, rows, heads, head_dim]
///        keys  std::span<const key_block<T>>, each [batch, its rows, kv_heads, head_dim or head_dim of v], all of one
///              head range that covers the kv heads that q's heads read. Their union is folded in the order that
///              interleave() gives it, so a list of shards gives the same bits as the sequence that they make up.
///        into  partial<A>&, [batch, rows, heads, head_dim of v]
///      What the score does to values and weights is done; its sinks are not the kernel's business.
///      A row's result does not depend on which other rows are in q. No scratch of rows x keys is made. What a row may
///      not see does not reach it, NaN and infinity included.
///   2. k.template workspace_bytes<T>(q, v, keys, workers) is the peak of the scratch that forward takes from
///      context.memory, for q and v of those shapes (v: the shape of one key_block's v; its seq is ignored), keys at those
///      positions (std::span<const positions>, one per key block) and that many workers.
///   3. k.name() is a std::string that tells kernels apart.
///   4. optional: k.backward(context, q, rows, keys, score, dq, dkv) adds the gradients that these keys cause. With
///      P_ij = exp(score_ij - lse_i), z_ij what dropout multiplies it by (or 1), f'_ij the derivative of the score by
///      scale q_i . k_j, and dS_ij = P_ij (z_ij dout_i . v_j - delta_i):
///        dq_i += scale sum_j f'_ij dS_ij k_j    dk_j += scale sum_i f'_ij dS_ij q_i    dv_j += sum_i z_ij P_ij dout_i
///      and, where they are wanted, context.slope_gradients[head] += sum_ij dS_ij d score_ij / d slope.
///        q, keys, score  as for forward; rows: row_gradients<T> of the rows of q
///        dq    tensor_view<A>, [batch, rows, heads, head_dim]
///        dkv   std::span<const key_gradients<A>>, one for each of keys
///      A key's gradients are summed over the query heads of its group and over rows in an order that depends on nothing
///      but the blocks: runs give the same bits whatever the number of workers. Nothing of rows x keys is kept.
///   5. k.template backward_workspace_bytes<T>(q, v, keys, workers) is the peak of backward's scratch, as for forward.
///   6. optional: k.check() throws `refusal` if this machine cannot run it.
///   7. optional: K::element<U>, the element T that it takes in the place of U, of the same size: see kernel_element.
template <class K, class T = float, class S = full>
concept kernel = real_element<T> && std::copyable<K> &&
    requires(const K& k, const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
             partial<accumulator_t<T>>& into, extents e, std::span<const positions> rows) {
    k.forward(how, q, keys, s, into);
    { k.template workspace_bytes<T>(e, e, rows, 1) } -> std::same_as<std::size_t>;
    { k.name() } -> std::convertible_to<std::string>;
};

/// A kernel that has a backward, too: items 4 and 5.
template <class K, class T = float, class S = full>
concept differentiable_kernel = kernel<K, T, S> &&
    requires(const K& k, const context& how, const block<const T>& q, const row_gradients<T>& of,
             std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
             std::span<const key_gradients<accumulator_t<T>>> dkv, extents e, std::span<const positions> rows) {
    k.backward(how, q, of, keys, s, dq, dkv);
    { k.template backward_workspace_bytes<T>(e, e, rows, 1) } -> std::same_as<std::size_t>;
};

} // namespace seqpar
