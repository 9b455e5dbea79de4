#pragma once

#include <seqpar/kernel/flash/cache_size.hpp>
#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/gradient_scratch.hpp>
#include <seqpar/kernel/flash/gradient_tile.hpp>
#include <seqpar/kernel/flash/key_tiles.hpp>
#include <seqpar/kernel/flash/panel_rows.hpp>
#include <seqpar/kernel/flash/passes.hpp>
#include <seqpar/kernel/flash/row_changes.hpp>
#include <seqpar/kernel/flash/tile_view.hpp>
#include <seqpar/kernel/kernel.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>
#include <thread>
#include <vector>

namespace seqpar::flash_detail {

/// One call of backward.
///
/// A worker takes a tile of keys, whose dk and dv stay in cache while it goes over all tiles of rows, from the last to
/// the first. Its addition to a tile's dq waits for the tile of keys before it: so the sums of dq have one order whatever
/// the number of workers, each product is made once, and workers follow each other one tile of rows apart.
template <class T>
class gradient_pass {
    using A = accumulator_t<T>;
    using scratch = gradient_scratch<T>;

public:
    gradient_pass(const engine<T>& code, const context& how, const block<const T>& q, const row_gradients<T>& rows,
                  std::span<const key_block<T>> keys, const asked_score<A>& s, const tensor_view<A>& dq,
                  std::span<const key_gradients<A>> dkv, const key_tiles& tiles, const scratch& layout, std::byte* base)
        : code_(code), how_(how), q_(q), rows_(rows), keys_(keys), score_(s), dq_(dq), dkv_(dkv), tiles_(tiles),
          layout_(layout), base_(base), scale_(static_cast<A>(how.scale)), changes_(s.changes),
          slopes_(!how.slope_gradients.empty() && s.slopes > 0) {
        for (index_t t = 0; t < layout.tiles(); ++t) ranges_.push_back(range_of(t));
    }

    void run() const {
        const std::vector<group> groups = groups_of_heads();
        for (std::size_t begin = 0; begin < groups.size();) {
            const std::size_t end = std::min(begin + static_cast<std::size_t>(layout_.heads()), groups.size());
            index_t most = 0;
            for (std::size_t g = begin; g < end; ++g) most = std::max(most, groups[g].count);
            for (index_t n = 0; n < most; ++n) {
                std::vector<head> heads;
                for (std::size_t g = begin; g < end; ++g)
                    if (n < groups[g].count) heads.push_back({groups[g].b, groups[g].first + n, groups[g].kv_head});
                run(heads);
            }
            begin = end;
        }
    }

private:
    struct group { // of query heads that read one kv head
        index_t b, first, count, kv_head;
    };
    struct head {
        index_t b, h, kv_head;
    };

    /// Vector multiply-adds between two calls of the progress hook: 20 to 200 microseconds.
    static constexpr index_t report_after = 1 << 18;

    [[nodiscard]] std::vector<group> groups_of_heads() const {
        std::vector<group> all;
        const extents& e = q_.view.shape();
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t h = 0; h < e.heads; ++h) {
                const index_t kv_head = how_.kv_head(q_.at.heads, h, keys_.front().at.heads);
                if (h > 0 && all.back().kv_head == kv_head)
                    ++all.back().count;
                else
                    all.push_back({b, h, 1, kv_head});
            }
        return all;
    }

    [[nodiscard]] index_t rows_in(index_t t) const noexcept {
        return std::min(gradient_rows, q_.view.shape().seq - t * gradient_rows);
    }

    /// f(row of the tile, its position) for each row of a tile.
    template <class F>
    void for_each_row(index_t t, const F& f) const {
        const index_t row = t * gradient_rows, end = row + rows_in(t);
        index_t begin = 0; // of the run
        for (const seqpar::run& r : q_.at.rows.runs()) {
            for (index_t i = std::max(row - begin, index_t{0}); i < std::min(end - begin, r.count); ++i)
                f(begin + i - row, r[i]);
            begin += r.count;
        }
    }

    [[nodiscard]] position_range range_of(index_t t) const {
        position_range range{q_.at.rows[t * gradient_rows], q_.at.rows[t * gradient_rows]};
        for_each_row(t, [&range](index_t, position at) {
            range.first = std::min(range.first, at);
            range.last = std::max(range.last, at);
        });
        return range;
    }

    void report(int worker) const {
        if (worker == 0 && how_.progress != nullptr) (*how_.progress)();
    }

    /// Heads that read different kv heads, or come from different batch entries.
    void run(const std::vector<head>& heads) const {
        const index_t count = static_cast<index_t>(heads.size()), tiles = layout_.tiles();
        how_.executor.run(count * tiles, [&](index_t item, int worker) {
            pack_rows(heads[static_cast<std::size_t>(item % count)], layout_.head(base_, item % count), item / count);
            report(worker);
        });
        for (index_t n = 0; n < count; ++n) std::fill_n(layout_.head(base_, n).passed, tiles_.count(), index_t{0});
        // Tickets and not items: a tile of keys waits only for one that is already being worked on, in whatever order
        // the executor calls.
        std::atomic<index_t> next{0};
        how_.executor.run(count * tiles_.count(), [&](index_t, int worker) {
            const index_t ticket = next.fetch_add(1);
            add_keys(heads[static_cast<std::size_t>(ticket % count)], layout_.head(base_, ticket % count),
                     ticket / count, worker);
        });
        how_.executor.run(count * tiles, [&](index_t item, int worker) {
            add_dq(heads[static_cast<std::size_t>(item % count)], layout_.head(base_, item % count), item / count);
            report(worker);
        });
        for (index_t n = 0; slopes_ && n < count; ++n)
            add_slopes(heads[static_cast<std::size_t>(n)], layout_.head(base_, n));
    }

    void pack_rows(const head& at, const typename scratch::rows_of_head& to, index_t t) const {
        const index_t row = t * gradient_rows, kc = layout_.k_columns(), vc = layout_.v_columns();
        const A factor = static_cast<A>(changes_ ? how_.scale : how_.scale * std::numbers::log2e);
        bool finite = true, blind = false;
        for (index_t r = row; r < row + gradient_rows; ++r) {
            const bool real = r < row + rows_in(t);
            to.lse[r] = real ? rows_.lse(at.b, r, at.h) * std::numbers::log2e_v<A> : A{};
            to.delta[r] = real ? rows_.delta(at.b, r, at.h) : A{};
            if (real && to.lse[r] != -std::numeric_limits<A>::infinity()) {
                finite &= code_.copy_row(q_.view.at(at.b, r, at.h), q_.view.step().dim, q_.view.shape().dim, factor,
                                         to.q + r * kc, kc);
                finite &= code_.copy_row(rows_.dout.at(at.b, r, at.h), rows_.dout.step().dim, rows_.dout.shape().dim,
                                         A{1}, to.dout + r * vc, vc);
            } else {
                std::fill_n(to.q + r * kc, kc, A{});
                std::fill_n(to.dout + r * vc, vc, A{});
                blind |= real;
            }
        }
        std::fill_n(to.dq + row * kc, gradient_rows * kc, A{});
        std::fill_n(to.slopes + row, gradient_rows, 0.0);
        to.tainted[t] = finite ? 0 : 1;
        to.blind[t] = blind ? 1 : 0;
    }

    /// dq += scale * what the tiles of keys have added up.
    void add_dq(const head& at, const typename scratch::rows_of_head& from, index_t t) const {
        const index_t row = t * gradient_rows;
        for (index_t r = row; r < row + rows_in(t); ++r) {
            A* to = dq_.at(at.b, r, at.h);
            const A* sum = from.dq + r * layout_.k_columns();
            for (index_t d = 0; d < dq_.shape().dim; ++d) to[d * dq_.step().dim] += scale_ * sum[d];
        }
    }

    /// What the rows of a head have added up for the gradient of its slope, in their order.
    void add_slopes(const head& at, const typename scratch::rows_of_head& from) const {
        double sum = 0;
        for (index_t r = 0; r < q_.view.shape().seq; ++r) sum += from.slopes[r];
        how_.slope_gradients[static_cast<std::size_t>(q_.at.heads.first + at.h)] += sum;
    }

    /// Keys and values of a tile in the kernel's order; false if some k is not finite.
    [[nodiscard]] bool pack_keys(const key_tiles::tile& k, index_t b, index_t kv_head,
                                 const typename scratch::arena& to) const {
        const index_t width = code_.panel_keys, kc = layout_.k_columns();
        const index_t dim = q_.view.shape().dim, dim_v = rows_.dout.shape().dim;
        panel_rows<T, gradient_keys> k_rows, v_rows;
        bool finite = true;
        tiles_.for_each_part(k, [&](std::size_t source, index_t row, index_t key, index_t every, index_t count) {
            const key_block<T>& from = keys_[source];
            k_rows.set(key, every, count, from.k, b, row, kv_head);
            v_rows.set(key, every, count, from.v, b, row, kv_head);
            for (index_t i = 0; i < count; ++i)
                finite &= code_.copy_row(from.k.at(b, row + i, kv_head), from.k.step().dim, dim, A{1},
                                         to.k_rows + (key + i * every) * kc, kc);
        });
        for (index_t j = 0; j < k.keys.count; j += width) {
            k_rows.pack_keys(code_, j, dim, to.k + j * dim);
            v_rows.pack_keys(code_, j, dim_v, to.v + j * dim_v);
        }
        return finite;
    }

    void add_dkv(const key_tiles::tile& k, index_t b, index_t kv_head, const typename scratch::arena& from) const {
        const A factor = changes_ ? A{1} : std::numbers::ln2_v<A>; // q was packed with 1 / factor
        tiles_.for_each_part(k, [&](std::size_t source, index_t row, index_t key, index_t every, index_t count) {
            const key_gradients<A>& to = dkv_[source];
            for (index_t i = 0; i < count; ++i) {
                const index_t n = key + i * every;
                for (index_t d = 0; d < to.dk.shape().dim; ++d)
                    *to.dk.at(b, row + i, kv_head, d) += factor * from.dk[n * layout_.k_columns() + d];
                for (index_t d = 0; d < to.dv.shape().dim; ++d)
                    *to.dv.at(b, row + i, kv_head, d) += from.dv[n * layout_.v_columns() + d];
            }
        });
    }

    /// What the rows of tile t see of the keys k; false: nothing.
    [[nodiscard]] bool look(index_t t, const key_tiles::tile& k, const typename scratch::rows_of_head& rows,
                            tile_view<gradient_rows>& seen) const {
        const coverage cover = score_.cover(how_.n, ranges_[static_cast<std::size_t>(t)], k.keys.range());
        if (cover == coverage::none) return false;
        const index_t count = k.keys.count;
        seen.rows = rows_in(t);
        if (cover == coverage::full)
            seen.see_all(count);
        else
            for_each_row(t, [&](index_t r, position at) { seen.set(r, score_.visible(how_.n, at, k.keys), count); });
        if (rows.blind[t] != 0)
            for (index_t r = 0; r < seen.rows; ++r)
                if (rows.lse[t * gradient_rows + r] == -std::numeric_limits<A>::infinity()) seen.set(r, {}, count);
        if (cover != coverage::full || rows.blind[t] != 0) seen.summarise(count);
        return seen.any_first < seen.any_last;
    }

    /// The rows of the tile after t, if the keys k are seen there and the rows of a head do not stay in cache.
    [[nodiscard]] data_to_come next_rows(index_t t, const key_tiles::tile& k,
                                         const typename scratch::rows_of_head& rows) const {
        const index_t kc = layout_.k_columns(), vc = layout_.v_columns(), row = (t - 1) * gradient_rows;
        const std::size_t bytes = static_cast<std::size_t>(layout_.tiles() * gradient_rows * (2 * kc + vc)) * sizeof(A);
        data_to_come all;
        if (t == 0 || bytes <= caches().second / 2 ||
            score_.cover(how_.n, ranges_[static_cast<std::size_t>(t - 1)], k.keys.range()) == coverage::none)
            return all;
        const auto add = [&](const A* from, index_t columns) {
            constexpr index_t size = sizeof(A);
            all.add(
                {reinterpret_cast<const char*>(from + row * columns), columns * size, columns * size, gradient_rows});
        };
        add(rows.q, kc);
        add(rows.dout, vc);
        add(rows.dq, kc);
        return all;
    }

    /// Where a tile of keys stands among the tiles of rows, for the one after it.
    class turn {
    public:
        turn(index_t* passed, index_t n, index_t tiles) : passed_(passed + n), first_(n == 0), tiles_(tiles) {}
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;
        /// Also where an exception ends the work: nobody waits for ever.
        ~turn() {
            wait(tiles_);
            pass(tiles_);
        }
        /// Returns when the tile of keys before this one has passed `count` tiles of rows.
        void wait(index_t count) const {
            if (first_) return;
            const std::atomic_ref<index_t> before(passed_[-1]);
            while (before.load(std::memory_order_acquire) < count) std::this_thread::yield();
        }
        void pass(index_t count) const { std::atomic_ref<index_t>(*passed_).store(count, std::memory_order_release); }

    private:
        index_t* passed_;
        bool first_;
        index_t tiles_;
    };

    /// The tile n of keys with all rows of a head.
    void add_keys(const head& at, const typename scratch::rows_of_head& rows, index_t n, int worker) const {
        const key_tiles::tile& k = tiles_[n];
        const typename scratch::arena own = layout_.worker(base_, worker);
        const index_t kc = layout_.k_columns(), vc = layout_.v_columns(), width = code_.panel_keys;
        const turn order(rows.passed, n, layout_.tiles());
        bool started = false, finite = true;
        index_t work = 0; // since the last report
        tile_view<gradient_rows> seen;
        std::array<index_t, gradient_rows> heads;
        heads.fill(q_.at.heads.first + at.h);
        for (index_t done = 0; done < layout_.tiles(); ++done) {
            const index_t t = layout_.tiles() - 1 - done, row = t * gradient_rows;
            if (!look(t, k, rows, seen)) continue;
            if (!started) {
                finite = pack_keys(k, at.b, at.kv_head, own);
                std::fill_n(own.dk, gradient_keys * kc, A{});
                std::fill_n(own.dv, gradient_keys * vc, A{});
                std::fill_n(own.p, gradient_rows * gradient_keys, A{});
                std::fill_n(own.ds, gradient_rows * gradient_keys, A{});
                started = true;
            }
            const index_t full_begin = (seen.all_first + width - 1) / width;
            const bool all = seen.all_first == 0 && seen.all_last == k.keys.count;
            std::array<position, gradient_rows> at_rows{};
            if (changes_) for_each_row(t, [&](index_t r, position p) { at_rows[static_cast<std::size_t>(r)] = p; });
            const row_changes<A> changes(score_, how_.n, how_.first_batch + at.b, heads.data(), at_rows.data(), k.keys,
                                         slopes_);
            std::array<double, gradient_rows> slopes{};
            const gradient_tile<A> tile{rows.q + row * kc,
                                        rows.dout + row * vc,
                                        rows.lse + row,
                                        rows.delta + row,
                                        rows.dq + row * kc,
                                        own.k,
                                        own.v,
                                        own.k_rows,
                                        own.dk,
                                        own.dv,
                                        own.p,
                                        own.ds,
                                        seen.first.data(),
                                        seen.last.data(),
                                        rows_in(t),
                                        q_.view.shape().dim,
                                        rows_.dout.shape().dim,
                                        kc,
                                        vc,
                                        seen.any_first,
                                        seen.any_last,
                                        full_begin,
                                        std::max(full_begin, seen.all_last / width),
                                        (changes_ || !all) && (!finite || rows.tainted[t] != 0),
                                        changes_ ? &changes : nullptr,
                                        next_rows(t, k, rows),
                                        slopes.data()};
            (changes_ ? code_.key_gradients_changed : code_.key_gradients)(tile);
            order.wait(done + 1);
            code_.row_gradients(tile);
            for (index_t r = 0; slopes_ && r < tile.rows; ++r)
                rows.slopes[row + r] += slopes[static_cast<std::size_t>(r)];
            order.pass(done + 1);
            work += rows_in(t) * (3 * kc + 2 * vc) * k.keys.count / code_.lanes;
            if (work < report_after) continue;
            work = 0;
            report(worker);
        }
        if (started) add_dkv(k, at.b, at.kv_head, own);
        report(worker);
    }

    engine<T> code_;
    const context& how_;
    const block<const T>& q_;
    const row_gradients<T>& rows_;
    std::span<const key_block<T>> keys_;
    const asked_score<A>& score_;
    const tensor_view<A>& dq_;
    std::span<const key_gradients<A>> dkv_;
    const key_tiles& tiles_;
    const scratch& layout_;
    std::byte* base_;
    A scale_;
    bool changes_, slopes_;              // the score changes values; gradients of its slopes are wanted
    std::vector<position_range> ranges_; // of each tile of rows
};

template <class T>
std::size_t backward_bytes(instruction_set set, const extents& q, const extents& v, std::span<const positions> keys,
                           int workers) {
    return gradient_scratch<T>(engine_for<T>(set, true), key_tiles(keys), q, v, workers).bytes();
}

template <class T>
void backward(instruction_set set, const context& how, const block<const T>& q, const row_gradients<T>& rows,
              std::span<const key_block<T>> keys, const asked_score<accumulator_t<T>>& s,
              const tensor_view<accumulator_t<T>>& dq, std::span<const key_gradients<accumulator_t<T>>> dkv) {
    const engine<T> code = engine_for<T>(set, true);
    const std::vector<positions> sources = rows_of<T>(keys);
    const key_tiles tiles(sources);
    const gradient_scratch<T> layout(code, tiles, q.view.shape(), keys.front().v.shape(), how.executor.workers());
    const buffer scratch(layout.bytes(), how.memory);
    if (layout.bytes() == 0) return;
    gradient_pass<T>(code, how, q, rows, keys, s, dq, dkv, tiles, layout, scratch.data()).run();
}

} // namespace seqpar::flash_detail
