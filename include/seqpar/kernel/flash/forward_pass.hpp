#pragma once

#include <seqpar/core/block.hpp>
#include <seqpar/core/partial.hpp>
#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/key_panels.hpp>
#include <seqpar/kernel/flash/passes.hpp>
#include <seqpar/kernel/flash/row_changes.hpp>
#include <seqpar/kernel/flash/scratch.hpp>
#include <seqpar/kernel/flash/tile.hpp>
#include <seqpar/kernel/kernel.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <new>
#include <numbers>
#include <span>
#include <vector>

namespace seqpar::flash_detail {

/// One call of forward.
///
/// A tile of rows starts each chunk of the keys from nothing and is merged into what it has when the chunk ends, so its
/// bits are the same whoever computes which chunk.
template <class T>
class forward_pass {
    using A = accumulator_t<T>;
    using scratch = forward_scratch<T>;

public:
    forward_pass(const engine<T>& code, const context& how, const block<const T>& q, std::span<const key_block<T>> keys,
                 const asked_score<A>& s, partial<A>& into, const panel_plan& plan, const scratch& layout,
                 std::byte* base)
        : code_(code), how_(how), q_(q), score_(s), into_(into), plan_(plan), layout_(layout), base_(base),
          packer_(code, plan, keys, layout.columns()), changed_(s.changes),
          scale_(static_cast<A>(changed_ ? how.scale : how.scale * std::numbers::log2e)) {
        for (index_t h = 0; h < q.view.shape().heads; ++h) {
            const index_t kv_head = how.kv_head(q.at.heads, h, keys.front().at.heads);
            if (h > 0 && groups_.back().kv_head == kv_head)
                ++groups_.back().heads;
            else
                groups_.push_back({h, 1, kv_head});
        }
    }

    void run() const {
        if (layout_.few()) return run_chunks();
        for (index_t b = 0; b < q_.view.shape().batch; ++b)
            for (const group& g : groups_) run_rows(b, g);
    }

private:
    using piece = panel_plan::piece;

    struct group { // of query heads that read one kv head
        index_t first, heads, kv_head;
    };

    /// Vector multiply-adds between two calls of the progress hook: 20 to 200 microseconds.
    static constexpr index_t report_after = 1 << 18;

    [[nodiscard]] index_t rows_of(const group& g) const noexcept { return q_.view.shape().seq * g.heads; }
    [[nodiscard]] index_t tiles_of(const group& g) const noexcept {
        return (rows_of(g) + code_.tile_rows - 1) / code_.tile_rows;
    }
    [[nodiscard]] row_state<A>& state(int worker, index_t n) const noexcept { return layout_.state(base_, worker, n); }
    void report(int worker) const {
        if (worker == 0 && how_.progress != nullptr) (*how_.progress)();
    }

    /// Many rows of a group: its keys are packed once, workers take tiles of rows.
    void run_rows(index_t b, const group& g) const {
        how_.executor.run(plan_.panels(), [&](index_t n, int worker) {
            const std::size_t r = plan_.run_of(n);
            packer_.pack(r, n - plan_.first_panel(r), b, g.kv_head, panels_of_run(r));
            report(worker);
        });
        // The same number of sets for each worker, of nearly the same number of tiles.
        const index_t workers = how_.executor.workers(), tiles = tiles_of(g), each = workers * layout_.tiles_at_once(),
                      sets = std::min((tiles + each - 1) / each * workers, tiles);
        how_.executor.run(sets, [&](index_t item, int worker) {
            // The last rows first: under a causal score they are the longest work.
            const index_t set = sets - 1 - item, first = set * tiles / sets, count = (set + 1) * tiles / sets - first;
            clear_weights(worker);
            for (index_t n = 0; n < count; ++n) prepare(state(worker, n), g, first + n);
            fold_pieces(
                b, plan_.pieces(), count, worker, [&](const auto& f) { f(g, index_t{0}, count); },
                [&](std::size_t r, index_t, index_t, const group&) { return panels_of_run(r); });
        });
    }

    /// Few rows: workers take chunks of the keys with some of the groups, and pack for themselves what they do not read in place.
    void run_chunks() const {
        const index_t batch = q_.view.shape().batch, chunks = plan_.chunks();
        std::vector<std::size_t> parts{0}; // of the groups: where each begins, and the end
        for (std::size_t i = 0, tiles = 0; i < groups_.size(); ++i) {
            const std::size_t more = static_cast<std::size_t>(tiles_of(groups_[i]));
            if (tiles > 0 && tiles + more > static_cast<std::size_t>(layout_.tiles_at_once()))
                parts.push_back(i), tiles = 0;
            tiles += more;
        }
        parts.push_back(groups_.size());
        const index_t each = static_cast<index_t>(parts.size()) - 1;

        how_.executor.run(batch * chunks * each, [&](index_t item, int worker) {
            const std::size_t part = static_cast<std::size_t>(item % each);
            const index_t chunk = item / each % chunks, b = item / each / chunks;
            const std::span<const group> groups(groups_.data() + parts[part], parts[part + 1] - parts[part]);
            clear_weights(worker);
            index_t tiles = 0;
            for (const group& g : groups)
                for (index_t n = 0; n < tiles_of(g); ++n) prepare(state(worker, tiles++), g, n);
            const auto each_group = [&](const auto& f) {
                index_t n = 0;
                for (const group& g : groups) f(g, n, tiles_of(g)), n += tiles_of(g);
            };
            const auto packed = [&](std::size_t r, index_t begin, index_t end, const group& g) {
                key_panels<A> to = layout_.panels(base_, worker);
                to.base = begin;
                for (index_t p = begin; p < end; ++p) packer_.pack(r, p, b, g.kv_head, to);
                return to;
            };
            fold_pieces(b, plan_.pieces_of(chunk), tiles, worker, each_group, packed);
        });
        if (chunks > 1) how_.executor.run(batch * q_.view.shape().seq, [&](index_t row, int) { merge_chunks(row); });
    }

    /// The panels of run r among those of a whole head.
    [[nodiscard]] key_panels<A> panels_of_run(std::size_t r) const {
        key_panels<A> panels = layout_.panels(base_, 0);
        const index_t first = plan_.first_panel(r);
        panels.k += first * code_.keys_of_panel(q_.view.shape().dim);
        panels.v += first * code_.values_of_panel(layout_.columns());
        panels.tainted += first;
        return panels;
    }

    /// The two products round the number of rows up differently: the second reads weights that the first has not written, those
    /// of no row. What earlier tiles leave there is as good as zeros; memory as it comes could be slow numbers.
    void clear_weights(int worker) const { std::fill_n(layout_.weights(base_, worker), code_.weights, A{}); }

    /// The rows of tile n of a group.
    void prepare(row_state<A>& s, const group& g, index_t n) const {
        const index_t begin = n * code_.tile_rows, rows = std::min(code_.tile_rows, rows_of(g) - begin);
        s.seen.rows = rows;
        for (index_t i = 0; i < rows; ++i) {
            const std::size_t r = static_cast<std::size_t>(i);
            s.row[r] = (begin + i) / g.heads;
            s.head[r] = q_.at.heads.first + g.first + (begin + i) % g.heads;
            s.at[r] = i > 0 && s.row[r] == s.row[r - 1] ? s.at[r - 1] : q_.at.rows[s.row[r]];
        }
        const auto [low, high] = std::minmax_element(s.at.begin(), s.at.begin() + rows);
        s.range = {*low, *high};
        s.packed = s.started = false;
    }

    /// What the rows see of a run of keys.
    void look(row_state<A>& s, const seqpar::run& keys) const {
        switch (score_.cover(how_.n, s.range, keys.range())) {
        case coverage::none:
            s.seen.see_none();
            return;
        case coverage::full:
            s.seen.see_all(keys.count);
            return;
        case coverage::partial:
            break;
        }
        for (index_t i = 0; i < s.seen.rows; ++i) {
            const std::size_t r = static_cast<std::size_t>(i);
            if (i > 0 && s.row[r] == s.row[r - 1])
                s.seen.first[r] = s.seen.first[r - 1], s.seen.last[r] = s.seen.last[r - 1];
            else
                s.seen.set(i, score_.visible(how_.n, s.at[r], keys), keys.count);
        }
        s.seen.summarise(keys.count);
    }

    /// Whether some row sees a key of panels [begin, end) of the run that it has looked at.
    [[nodiscard]] bool sees(const row_state<A>& s, index_t begin, index_t end) const noexcept {
        return std::max(s.seen.any_first, begin * code_.panel_keys) < std::min(s.seen.any_last, end * code_.panel_keys);
    }

    /// Whether these panels need not be packed for the tile: its rows are few, and see every key.
    [[nodiscard]] bool takes_in_place(const row_state<A>& s, index_t begin, index_t end) const noexcept {
        return layout_.few() && code_.fold_in_place != nullptr && s.seen.rows <= in_place_rows && !changed_ &&
               s.seen.all_first <= begin * code_.panel_keys && s.seen.all_last >= end * code_.panel_keys;
    }

    /// The first `states` tiles of a worker with pieces of the keys. each_group(f) calls f(group, first tile, tiles);
    /// panels(run, begin, end, group) has these panels of the run.
    template <class EachGroup, class Panels>
    void fold_pieces(index_t b, std::span<const piece> pieces, index_t states, int worker, const EachGroup& each_group,
                     const Panels& panels) const {
        index_t work = 0; // since the last report
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            const piece& p = pieces[i];
            if (i == 0 || p.run != pieces[i - 1].run)
                for (index_t n = 0; n < states; ++n) look(state(worker, n), plan_.runs()[p.run]);
            for (index_t begin = p.begin, end; begin < p.end; begin = end) {
                end = std::min((begin / layout_.step() + 1) * layout_.step(), p.end);
                each_group([&](const group& g, index_t first, index_t count) {
                    bool any = false;
                    for (index_t n = first; n < first + count && !any; ++n) any = sees(state(worker, n), begin, end);
                    if (!any) return;
                    work += count * (end - begin) * code_.tile_rows * 3 * (q_.view.shape().dim + layout_.columns());
                    A* const weights = layout_.weights(base_, worker);
                    if (takes_in_place(state(worker, first), begin, end)) {
                        const keys_in_place<T> keys = packer_.in_place(p.run, begin, end, b, g.kv_head);
                        if (keys.panels > 0) return fold(state(worker, first), weights, b, keys);
                    }
                    const key_panels<A> keys = panels(p.run, begin, end, g);
                    for (index_t n = first; n < first + count; ++n)
                        if (sees(state(worker, n), begin, end))
                            fold(state(worker, n), weights, b, p.run, keys, begin, end);
                });
                if (work < report_after) continue;
                work = 0;
                report(worker);
            }
            if (i + 1 == pieces.size() || pieces[i + 1].chunk != p.chunk)
                for (index_t n = 0; n < states; ++n) close(state(worker, n), b, p.chunk);
        }
        report(worker);
    }

    /// The tile as the kernel wants it, before its next keys.
    [[nodiscard]] tile<A> start(row_state<A>& s, A* weights, index_t b, const row_changes<A>* changes) const {
        const index_t dim = q_.view.shape().dim, rows = s.seen.rows;
        if (!s.packed) {
            for (index_t i = 0; i < code_.tile_rows; ++i) {
                const std::size_t row = static_cast<std::size_t>(std::min(i, rows - 1));
                code_.copy_query(q_.view.at(b, s.row[row], s.head[row] - q_.at.heads.first), q_.view.step().dim, dim,
                                 scale_, s.q + i * layout_.q_columns(), layout_.q_columns());
            }
            s.packed = true;
        }
        if (!s.started) {
            std::fill_n(s.acc, code_.tile_rows * layout_.columns(), A{});
            std::fill_n(s.sums, code_.tile_rows * code_.lanes, A{});
            // Any score exceeds the lowest finite number by the threshold, and nothing minus it is NaN.
            std::fill_n(s.reference, code_.tile_rows, std::numeric_limits<A>::lowest());
            s.started = true;
        }
        return {scale_,
                s.q,
                weights,
                s.acc,
                s.sums,
                s.reference,
                s.seen.first.data(),
                s.seen.last.data(),
                rows,
                dim,
                layout_.q_columns(),
                layout_.columns(),
                changes};
    }

    /// Folds keys that all its rows see into a tile.
    void fold(row_state<A>& s, A* weights, index_t b, const keys_in_place<T>& keys) const {
        code_.fold_in_place(start(s, weights, b, nullptr), keys);
    }

    /// Folds panels [begin, end) of a run into a tile.
    void fold(row_state<A>& s, A* weights, index_t b, std::size_t r, const key_panels<A>& keys, index_t begin,
              index_t end) const {
        const index_t width = code_.panel_keys;
        const row_changes<A> changes(score_, how_.n, how_.first_batch + b, s.head.data(), s.at.data(), plan_.runs()[r]);
        const index_t full_begin = (s.seen.all_first + width - 1) / width;
        const stretch<A> range{keys.k,
                               keys.v,
                               code_.value_step(layout_.columns()),
                               keys.tainted,
                               keys.base,
                               std::max(begin, s.seen.any_first / width),
                               std::min(end, (s.seen.any_last + width - 1) / width),
                               full_begin,
                               std::max(full_begin, s.seen.all_last / width),
                               s.seen.any_first,
                               s.seen.any_last};
        (changed_ ? code_.fold_changed : code_.fold)(start(s, weights, b, changed_ ? &changes : nullptr), range);
    }

    /// The end of a chunk: what its keys have made of the rows goes to `into`, or waits for the chunks before it.
    void close(row_state<A>& s, index_t b, index_t chunk) const {
        const bool waits = layout_.few() && plan_.chunks() > 1;
        if (s.started) code_.add_lanes(s.sums, s.seen.rows);
        for (index_t i = 0; i < s.seen.rows && (s.started || waits); ++i) {
            const std::size_t r = static_cast<std::size_t>(i);
            const index_t h = s.head[r] - q_.at.heads.first;
            const A sum = s.started ? s.sums[i * code_.lanes] : A{};
            if (!waits) {
                merge(b, s.row[r], h, s.acc + i * layout_.columns(), s.reference[i], sum);
                continue;
            }
            const typename scratch::parts to = layout_.results(base_);
            const index_t n = result(chunk, b, s.row[r], h);
            to.sum[n] = sum;
            to.max[n] = s.reference[i];
            if (s.started)
                std::copy_n(s.acc + i * layout_.columns(), layout_.columns(), to.acc + n * layout_.columns());
        }
        s.started = false;
    }

    [[nodiscard]] index_t result(index_t chunk, index_t b, index_t row, index_t h) const noexcept {
        const extents& e = q_.view.shape();
        return ((chunk * e.batch + b) * e.seq + row) * e.heads + h;
    }

    /// All chunks of a row of all heads, in their order.
    void merge_chunks(index_t row_of_batch) const {
        const extents& e = q_.view.shape();
        const index_t b = row_of_batch / e.seq, row = row_of_batch % e.seq;
        const typename scratch::parts from = layout_.results(base_);
        for (index_t h = 0; h < e.heads; ++h)
            for (index_t chunk = 0; chunk < plan_.chunks(); ++chunk) {
                const index_t n = result(chunk, b, row, h);
                merge(b, row, h, from.acc + n * layout_.columns(), from.max[n], from.sum[n]);
            }
    }

    /// partial::fold, in vectors.
    void merge(index_t b, index_t row, index_t h, const A* acc, A reference, A total) const {
        if (total == 0) return; // has seen nothing: stays what it is
        A& max = into_.max()(b, row, h);
        A& sum = into_.sum()(b, row, h);
        const A top = std::max(max, reference);
        const A mine = max == top ? A{1} : std::exp2(max - top),
                theirs = reference == top ? A{1} : std::exp2(reference - top);
        code_.blend_row(into_.acc().at(b, row, h), mine, acc, theirs, into_.shape().dim);
        sum = sum * mine + total * theirs;
        max = top;
    }

    const engine<T>& code_;
    const context& how_;
    const block<const T>& q_;
    const asked_score<A>& score_;
    partial<A>& into_;
    const panel_plan& plan_;
    const scratch& layout_;
    std::byte* base_;
    key_packer<T> packer_;
    bool changed_; // the score changes values
    A scale_;
    std::vector<group> groups_;
};

template <class T>
[[nodiscard]] std::size_t forward_bytes(instruction_set set, bool products_in_float, const extents& q, const extents& v,
                                        std::span<const positions> keys, int workers) {
    const engine<T> code = engine_for<T>(set, products_in_float);
    return forward_scratch<T>(code, panel_plan(keys, code.panel_keys), q, v, workers).bytes();
}

template <class T>
std::size_t forward_bytes(instruction_set set, const extents& q, const extents& v, std::span<const positions> keys,
                          int workers) {
    const std::size_t bytes = forward_bytes<T>(set, true, q, v, keys, workers);
    if constexpr (std::is_same_v<T, bfloat16>)
        return std::max(bytes, forward_bytes<T>(set, false, q, v, keys, workers));
    else
        return bytes;
}

template <class T>
void forward(instruction_set set, const context& how, const block<const T>& q, std::span<const key_block<T>> keys,
             const asked_score<accumulator_t<T>>& s, partial<accumulator_t<T>>& into) {
    const engine<T> code = engine_for<T>(set, s.changes);
    const std::vector<positions> sources = rows_of<T>(keys);
    const panel_plan plan(sources, code.panel_keys);
    const extents &q_shape = q.view.shape(), &v_shape = keys.front().v.shape();
    const int workers = how.executor.workers();
    const forward_scratch<T> layout(code, plan, q_shape, v_shape, workers);
    std::size_t bytes = layout.bytes();
    if constexpr (std::is_same_v<T, bfloat16>) // as forward_bytes says, which knows no score
        bytes = std::max(bytes, forward_bytes<T>(set, !s.changes, q_shape, v_shape, sources, workers));
    const buffer scratch(bytes, how.memory);
    if (layout.bytes() == 0) return;
    const auto sees_anything = [&] {
        for (const run& r : q.at.rows.runs())
            for (const run& k : plan.runs())
                if (s.cover(how.n, r.range(), k.range()) != coverage::none) return true;
        return false;
    };
    if (sees_anything()) forward_pass<T>(code, how, q, keys, s, into, plan, layout, scratch.data()).run();
}

} // namespace seqpar::flash_detail
