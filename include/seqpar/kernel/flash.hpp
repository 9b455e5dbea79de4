#pragma once

#include <seqpar/core/interleave.hpp>
#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/gradient_pass.hpp>
#include <seqpar/kernel/flash/gradient_scratch.hpp>
#include <seqpar/kernel/flash/instruction_set.hpp>
#include <seqpar/kernel/flash/key_panels.hpp>
#include <seqpar/kernel/flash/key_tiles.hpp>
#include <seqpar/kernel/flash/row_tile.hpp>
#include <seqpar/kernel/flash/scratch.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/score/parts.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <numbers>
#include <span>
#include <string>
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
    instruction_set target = instruction_set::automatic;

    /// The set that runs: `target`, or the best there is.
    [[nodiscard]] instruction_set resolved() const noexcept {
        return target == instruction_set::automatic ? best_instruction_set() : target;
    }

    /// Throws `refusal` if the processor lacks `target`.
    void check() const {
        if (is_supported(target)) return;
        std::string allowed;
        for (const instruction_set set : {instruction_set::automatic, instruction_set::baseline, instruction_set::avx2})
            if (is_supported(set)) allowed.append(allowed.empty() ? "" : ", ").append(to_string(set));
        throw refusal(detail::concat("flash: this processor does not have ", to_string(target), ": allowed are ",
                                     allowed, "; nearest is ", to_string(best_instruction_set())));
    }

    /// As `kernel` says. Throws `refusal` as check() does.
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        using A = accumulator_t<T>;
        check();
        if (keys.empty()) return;
        const flash_detail::engine<A> code = flash_detail::engine_for<A>(resolved());
        std::vector<positions> sources;
        for (const key_block<T>& b : keys) sources.push_back(b.at.rows);
        const flash_detail::panel_plan plan(sources, code.panel_keys);
        const extents e = q.view.shape();
        const flash_detail::flash_scratch<A> layout(code, plan, e.batch * e.seq * e.heads, e.dim, into.shape().dim,
                                                    how.executor.workers());
        const buffer scratch(layout.bytes(), how.memory);
        if (layout.bytes() == 0 || !sees_anything(how, q.at.rows, plan.runs(), s)) return;

        const flash_detail::key_panels<A> panels = layout.panels(scratch.data());
        const flash_detail::key_packer<T, A> packer(plan, keys, panels);
        const auto report = [&how](int worker) {
            if (worker == 0 && how.progress != nullptr) (*how.progress)();
        };
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t h = 0, next; h < e.heads; h = next) {
                const index_t kv_head = how.kv_head(q.at.heads, h, keys.front().at.heads);
                for (next = h + 1; next < e.heads && how.kv_head(q.at.heads, next, keys.front().at.heads) == kv_head;)
                    ++next;

                std::fill_n(panels.tainted, plan.panels(), static_cast<unsigned char>(0));
                how.executor.run(packer.pieces(), [&](index_t piece, int worker) {
                    packer.pack(piece, b, kv_head);
                    report(worker);
                });

                const index_t heads = next - h, tiles = (e.seq + flash_detail::tile_rows - 1) / flash_detail::tile_rows;
                how.executor.run(heads * tiles, [&, h](index_t item, int worker) {
                    // The last rows first: under a causal score they are the longest work.
                    const index_t row = (tiles - 1 - item / heads) * flash_detail::tile_rows;
                    const flash_detail::row_tile<T, A> tile(code, layout.worker(scratch.data(), worker),
                                                            std::min(flash_detail::tile_rows, e.seq - row), e.dim,
                                                            layout.columns());
                    fold_rows(how, q, b, row, h + item % heads, tile, plan, panels, s, into, [&] { report(worker); });
                });
            }
    }

    /// Scratch of forward, to the byte: the keys and values of one head in the accumulation type, runs of the union
    /// padded to whole panels, and a tile for each worker; flash_scratch has the terms. No term grows with the rows.
    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                              int workers) const {
        using A = accumulator_t<T>;
        check();
        const flash_detail::engine<A> code = flash_detail::engine_for<A>(resolved());
        return flash_detail::flash_scratch<A>(code, flash_detail::panel_plan(keys, code.panel_keys),
                                              q.batch * q.seq * q.heads, q.dim, v.dim, workers)
            .bytes();
    }

    /// As `kernel` says: five products for each pair of tiles that the score lets be seen, however many workers there
    /// are. Throws `refusal` as check() does. What a row may not see adds exactly nothing, NaN and infinity included. The
    /// gradients of slopes are summed in one order, whatever the number of workers.
    template <real_element T, differentiable_score S>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& rows,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        using A = accumulator_t<T>;
        check();
        if (keys.empty()) return;
        const flash_detail::engine<A> code = flash_detail::engine_for<A>(resolved());
        std::vector<positions> sources;
        for (const key_block<T>& b : keys) sources.push_back(b.at.rows);
        const flash_detail::key_tiles tiles(sources);
        const flash_detail::gradient_scratch<A> layout(code, tiles, q.view.shape(), keys.front().v.shape(),
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
        using A = accumulator_t<T>;
        check();
        const flash_detail::engine<A> code = flash_detail::engine_for<A>(resolved());
        return flash_detail::gradient_scratch<A>(code, flash_detail::key_tiles(keys), q, v, workers).bytes();
    }

    [[nodiscard]] std::string name() const {
        return target == instruction_set::automatic ? "flash" : detail::concat("flash(", to_string(target), ')');
    }

private:
    /// Vector multiply-adds between two calls of the progress hook: 20 to 200 microseconds.
    static constexpr index_t report_after = 1 << 18;

    template <score S>
    [[nodiscard]] static bool sees_anything(const context& how, const positions& rows, const std::vector<run>& keys,
                                            const S& s) {
        for (const run& r : rows.runs())
            for (const run& k : keys)
                if (s.cover(how.n, r.range(), k.range()) != coverage::none) return true;
        return false;
    }

    /// Positions of rows [row, row + count) of q.
    [[nodiscard]] static std::array<position, flash_detail::tile_rows> positions_of(const positions& rows, index_t row,
                                                                                    index_t count) {
        std::array<position, flash_detail::tile_rows> at{};
        index_t begin = 0; // of the run
        std::size_t n = 0;
        for (const run& r : rows.runs()) {
            for (index_t i = std::max(row - begin, index_t{0}); i < std::min(row + count - begin, r.count); ++i)
                at[n++] = r[i];
            begin += r.count;
        }
        return at;
    }

    /// One tile of rows of one head with all runs of keys.
    template <class T, class A, score S, class Report>
    static void fold_rows(const context& how, const block<const T>& q, index_t b, index_t row, index_t h,
                          const flash_detail::row_tile<T, A>& tile, const flash_detail::panel_plan& plan,
                          const flash_detail::key_panels<A>& panels, const S& s, partial<A>& into,
                          const Report& report) {
        const index_t rows = std::min(flash_detail::tile_rows, q.view.shape().seq - row), width = plan.panel_keys();
        const auto at = positions_of(q.at.rows, row, rows);
        const auto [low, high] = std::minmax_element(at.begin(), at.begin() + rows);
        const position_range range{*low, *high};
        const index_t panel_work = flash_detail::tile_rows * 3 * (panels.dim + panels.columns),
                      blocks = report_after / std::max(index_t{1}, panel_work) / block_panels(width);
        const index_t step = std::max(index_t{1}, blocks) * block_panels(width);

        const bool changed = changes_values(s);
        const A scale = static_cast<A>(changed ? how.scale : how.scale * std::numbers::log2e);
        bool started = false;
        flash_detail::tile_view<flash_detail::tile_rows> seen;
        seen.rows = rows;
        for (std::size_t r = 0; r < plan.runs().size(); ++r) {
            const run& k = plan.runs()[r];
            const coverage cover = s.cover(how.n, range, k.range());
            if (cover == coverage::none) continue;
            if (cover == coverage::full) {
                seen.see_all(k.count);
            } else {
                for (index_t i = 0; i < rows; ++i)
                    seen.set(i, s.visible(how.n, at[static_cast<std::size_t>(i)], k), k.count);
                seen.summarise(k.count);
            }
            if (seen.any_first >= seen.any_last) continue;
            if (!started) tile.start(q.view, scale, into, b, row, h);
            started = true;
            const flash_detail::changes_of<A, S> changes(s, how.n, how.first_batch + b, q.at.heads.first + h, at.data(),
                                                         k);
            const index_t end = (seen.any_last + width - 1) / width;
            for (index_t begin = seen.any_first / width; begin < end;) {
                const index_t stop = std::min(begin / step * step + step, end);
                tile.fold(panels, plan.first_panel(r), seen, begin, stop, changed ? &changes : nullptr);
                report();
                begin = stop;
            }
        }
        if (started) tile.finish(into, b, row, h);
    }

    [[nodiscard]] static constexpr index_t block_panels(index_t width) noexcept {
        return flash_detail::block_keys / width;
    }
};
static_assert(kernel<flash> && kernel<flash, double> && kernel<flash, bfloat16>);

} // namespace seqpar
