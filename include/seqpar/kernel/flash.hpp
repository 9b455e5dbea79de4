#pragma once

#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/forward_pass.hpp>
#include <seqpar/kernel/flash/gradient_pass.hpp>
#include <seqpar/kernel/flash/gradient_scratch.hpp>
#include <seqpar/kernel/flash/instruction_set.hpp>
#include <seqpar/kernel/flash/key_panels.hpp>
#include <seqpar/kernel/flash/key_tiles.hpp>
#include <seqpar/kernel/flash/scratch.hpp>
#include <seqpar/kernel/kernel.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

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
        const flash_detail::engine<T> code = flash_detail::engine_for<T>(target(), changes_values(s));
        const std::vector<positions> sources = rows_of<T>(keys);
        const flash_detail::panel_plan plan(sources, code.panel_keys);
        const extents &q_shape = q.view.shape(), &v_shape = keys.front().v.shape();
        const int workers = how.executor.workers();
        const flash_detail::forward_scratch<T> layout(code, plan, q_shape, v_shape, workers);
        std::size_t bytes = layout.bytes();
        if constexpr (std::is_same_v<T, bfloat16>) // as workspace_bytes says, which knows no score
            bytes = std::max(bytes, scratch_bytes<T>(!changes_values(s), q_shape, v_shape, sources, workers));
        const buffer scratch(bytes, how.memory);
        if (layout.bytes() == 0 || !sees_anything(how, q.at.rows, plan.runs(), s)) return;
        flash_detail::forward_pass<T, S>(code, how, q, keys, s, into, plan, layout, scratch.data()).run();
    }

    /// Scratch of forward, to the byte: forward_scratch has the terms. With many rows: the keys and values of one head in
    /// the accumulation type, runs of the union padded to whole panels, and tiles of rows for each worker; no term grows
    /// with the rows. It depends on the sizes of this processor's caches. Of a set that multiplies bfloat16, the most that any
    /// score takes.
    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                              int workers) const {
        check();
        const std::size_t bytes = scratch_bytes<T>(true, q, v, keys, workers);
        if constexpr (std::is_same_v<T, bfloat16>)
            return std::max(bytes, scratch_bytes<T>(false, q, v, keys, workers));
        else
            return bytes;
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
        const flash_detail::engine<T> code = flash_detail::engine_for<T>(target(), true);
        const std::vector<positions> sources = rows_of<T>(keys);
        const flash_detail::key_tiles tiles(sources);
        const flash_detail::gradient_scratch<T> layout(code, tiles, q.view.shape(), keys.front().v.shape(),
                                                       how.executor.workers());
        const buffer scratch(layout.bytes(), how.memory);
        if (layout.bytes() == 0) return;
        flash_detail::gradient_pass<T, S>(code, how, q, rows, keys, s, dq, dkv, tiles, layout, scratch.data()).run();
    }

    /// Scratch of backward, to the byte: q, dout and dq of a head (of several, where it has too few keys for the
    /// workers) in the accumulation type, and a block of keys for each worker; gradient_scratch has the terms.
    template <real_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents& q, const extents& v,
                                                       std::span<const positions> keys, int workers) const {
        check();
        const flash_detail::engine<T> code = flash_detail::engine_for<T>(target(), true);
        return flash_detail::gradient_scratch<T>(code, flash_detail::key_tiles(keys), q, v, workers).bytes();
    }

    [[nodiscard]] std::string name() const {
        return forced == instruction_set::automatic ? "flash" : detail::concat("flash(", to_string(forced), ')');
    }

private:
    template <class T>
    [[nodiscard]] std::size_t scratch_bytes(bool products_in_float, const extents& q, const extents& v,
                                            std::span<const positions> keys, int workers) const {
        const flash_detail::engine<T> code = flash_detail::engine_for<T>(target(), products_in_float);
        const flash_detail::panel_plan plan(keys, code.panel_keys);
        return flash_detail::forward_scratch<T>(code, plan, q, v, workers).bytes();
    }

    template <class T>
    [[nodiscard]] static std::vector<positions> rows_of(std::span<const key_block<T>> keys) {
        std::vector<positions> rows;
        for (const key_block<T>& b : keys) rows.push_back(b.at.rows);
        return rows;
    }

    template <score S>
    [[nodiscard]] static bool sees_anything(const context& how, const positions& rows, const std::vector<run>& keys,
                                            const S& s) {
        for (const run& r : rows.runs())
            for (const run& k : keys)
                if (s.cover(how.n, r.range(), k.range()) != coverage::none) return true;
        return false;
    }
};
static_assert(kernel<flash> && kernel<flash, double> && kernel<flash, bfloat16>);

} // namespace seqpar
