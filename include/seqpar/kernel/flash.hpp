#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/kernel/flash/asked_score.hpp>
#include <seqpar/kernel/flash/instruction_set.hpp>
#include <seqpar/kernel/flash/passes.hpp>
#include <seqpar/kernel/kernel.hpp>
#if !defined(SEQPAR_FLASH_ELSEWHERE)
#include <seqpar/kernel/flash/forward_pass.hpp>
#include <seqpar/kernel/flash/gradient_pass.hpp>
#endif

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace seqpar {

/// The fast kernel: attention in tiles of 24 rows, vectorised, for the instruction set that the processor has.
///
/// Keys and values of a head are packed once into panels that all row tiles and all query heads of the group share.
/// Scores, weights and their product with the values stay in registers and first-level cache; softmax is online, and
/// tiles that the score does not let be seen cost nothing. Work is spread over (query head, row tile) through
/// context.executor.
///
/// A score that changes values is asked once for a row and at most 96 keys. What it hides by -inf has no weight, and nothing
/// of such a key, nor of a value whose weight it drops, reaches the row, NaN and infinity included.
///
/// A row's result does not depend, in any bit, on the other rows of q, on how the keys were cut into blocks of one
/// call, on the number of workers, nor on what it may not see. It does depend on the instruction set and the
/// compiler, which may round a product before a sum or not.
///
/// O(rows * visible keys * (head_dim of k + of v)) operations; memory: workspace_bytes.
struct flash {
    /// Which code runs. A set that the processor lacks is refused.
    instruction_set forced = instruction_set::automatic;

    /// The set that runs: `forced`, or what the environment variable SEQPAR_INSTRUCTION_SET names, or the best there is.
    [[nodiscard]] instruction_set target() const noexcept {
        if (forced != instruction_set::automatic) return forced;
        const instruction_set asked = instruction_set_named(asked_instruction_set()).value_or(forced);
        return asked != instruction_set::automatic ? asked : best_instruction_set();
    }

    /// Throws `refusal` if the set that is asked for is unknown, or one that the processor lacks.
    void check() const {
        const std::string_view asked = asked_instruction_set();
        const bool known = forced != instruction_set::automatic || instruction_set_named(asked);
        if (known && is_supported(target())) return;
        std::string allowed;
        for (const instruction_set set : all_instruction_sets)
            if (is_supported(set)) allowed.append(allowed.empty() ? "" : ", ").append(to_string(set));
        if (!known)
            throw refusal(detail::concat("SEQPAR_INSTRUCTION_SET '", asked, "' is unknown: allowed are ", allowed));
        throw refusal(detail::concat("flash: this processor does not have ", to_string(target()), ": allowed are ",
                                     allowed, "; nearest is ", to_string(best_instruction_set())));
    }

    /// As `kernel` says. Throws `refusal` as check() does.
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        check();
        if (keys.empty()) return;
        const flash_detail::asked_score_of<accumulator_t<T>, S> asked(s);
        flash_detail::forward<T>(target(), how, q, keys, asked, into);
    }

    /// Scratch of forward, to the byte: forward_scratch has the terms. With many rows: the keys and values of one head in
    /// the accumulation type, runs of the union padded to whole panels, and tiles of rows for each worker; no term grows
    /// with the rows. It depends on the sizes of this processor's caches. Of a set that multiplies bfloat16, the most that any
    /// score takes.
    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                              int workers) const {
        check();
        return flash_detail::forward_bytes<T>(target(), q, v, keys, workers);
    }

    /// As `kernel` says: five products for each pair of tiles that the score lets be seen, however many workers there
    /// are. Throws `refusal` as check() does. What a row may not see adds exactly nothing, NaN and infinity included. The
    /// gradients of slopes are summed in one order, whatever the number of workers.
    template <real_element T, differentiable_score S>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        check();
        if (keys.empty()) return;
        const flash_detail::asked_score_of<accumulator_t<T>, S> asked(s);
        flash_detail::backward<T>(target(), how, q, rows, keys, asked, dq, dkv);
    }

    /// Scratch of backward, to the byte: q, dout and dq of a head (of several, where it has too few keys for the
    /// workers) in the accumulation type, and a block of keys for each worker; gradient_scratch has the terms.
    template <real_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents& q, const extents& v,
                                                       std::span<const positions> keys, int workers) const {
        check();
        return flash_detail::backward_bytes<T>(target(), q, v, keys, workers);
    }

    [[nodiscard]] std::string name() const {
        return forced == instruction_set::automatic ? "flash" : detail::concat("flash(", to_string(forced), ')');
    }
};
static_assert(kernel<flash> && kernel<flash, double> && kernel<flash, bfloat16>);

} // namespace seqpar
