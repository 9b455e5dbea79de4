#pragma once

#include <seqpar/core/block.hpp>
#include <seqpar/core/interleave.hpp>
#include <seqpar/kernel/flash/engine.hpp>
#include <seqpar/kernel/flash/key_tiles.hpp>
#include <seqpar/kernel/flash/panel_rows.hpp>
#include <seqpar/kernel/flash/prefetch.hpp>
#include <seqpar/kernel/flash/tile.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::flash_detail {

/// Keys after which a row's softmax is closed and merged into what it has: so that a long row has pieces which workers
/// may share, in an order of sums that does not depend on them. A multiple of block_keys.
inline constexpr index_t chunk_keys = 43 * block_keys;

/// Where each key of a union of blocks goes: panels of `panel_keys` keys, cut within each run of the union, the last
/// of a run padded; and pieces of runs, each part of one chunk. A function of the positions only, so that the same keys
/// make the same panels however they were sharded.
class panel_plan {
public:
    struct piece {
        std::size_t run;
        index_t begin, end; ///< panels of the run
        index_t chunk;
    };

    panel_plan(std::span<const positions> sources, index_t panel_keys)
        : keys_(interleave(sources)), panel_keys_(panel_keys) {
        const index_t most = chunk_keys / panel_keys;
        index_t used = 0, chunk = 0; // panels of the chunk
        first_panel_.push_back(0);
        first_key_.push_back(0);
        for (std::size_t r = 0; r < runs().size(); ++r) {
            const index_t panels = (runs()[r].count + panel_keys - 1) / panel_keys;
            for (index_t begin = 0; begin < panels; begin += most) {
                const index_t end = std::min(begin + most, panels);
                if (used > 0 && used + end - begin > most) ++chunk, used = 0;
                used += end - begin;
                pieces_.push_back({r, begin, end, chunk});
            }
            first_panel_.push_back(first_panel_.back() + panels);
            first_key_.push_back(first_key_.back() + runs()[r].count);
        }
    }

    [[nodiscard]] const std::vector<run>& runs() const noexcept { return keys_.rows.runs(); }
    [[nodiscard]] index_t panel_keys() const noexcept { return panel_keys_; }
    [[nodiscard]] index_t panels() const noexcept { return first_panel_.back(); }
    [[nodiscard]] index_t first_panel(std::size_t r) const noexcept { return first_panel_[r]; }
    [[nodiscard]] const std::vector<piece>& pieces() const noexcept { return pieces_; }
    [[nodiscard]] index_t chunks() const noexcept { return pieces_.empty() ? 0 : pieces_.back().chunk + 1; }

    [[nodiscard]] std::span<const piece> pieces_of(index_t chunk) const noexcept {
        const auto less = [](const piece& a, const piece& b) { return a.chunk < b.chunk; };
        const auto [first, last] = std::equal_range(pieces_.begin(), pieces_.end(), piece{0, 0, 0, chunk}, less);
        return {first, last};
    }

    /// The run of the panel with this number among all.
    [[nodiscard]] std::size_t run_of(index_t panel) const noexcept {
        return static_cast<std::size_t>(std::upper_bound(first_panel_.begin(), first_panel_.end(), panel) -
                                        first_panel_.begin()) -
               1;
    }

    /// for_each_part_of the keys of a panel of run r, and of the `more` keys that follow them in the run.
    template <class F>
    void for_each_part(std::size_t r, index_t panel, index_t more, const F& f) const {
        const index_t count = std::min(panel_keys_ + more, runs()[r].count - panel * panel_keys_);
        for_each_part_of(keys_, first_key_[r] + panel * panel_keys_, count, f);
    }

    /// Where the keys of panels [begin, end) of run r lie, if the panels are full and the keys consecutive rows of one source.
    struct place {
        std::size_t source;
        index_t row, panels; ///< panels 0: they are not
    };
    [[nodiscard]] place place_of(std::size_t r, index_t begin, index_t end) const noexcept {
        const index_t first = first_key_[r] + begin * panel_keys_, count = (end - begin) * panel_keys_;
        for (const segment& s : keys_.segments)
            if (s.to <= first && first + count <= s.to + s.count && s.every == 1 &&
                end * panel_keys_ <= runs()[r].count)
                return {s.source, s.from + first - s.to, end - begin};
        return {0, 0, 0};
    }

private:
    interleaved keys_;
    index_t panel_keys_;
    std::vector<index_t> first_panel_, first_key_; // of each run, and the end
    std::vector<piece> pieces_;
};

/// Keys and values of one head in the kernel's order and type, on their way there.
template <class A>
struct key_panels {
    A* k;                   ///< [panels][dim][panel_keys]
    A* v;                   ///< [panels][panel_keys / packing], value_step(columns) apart
    unsigned char* tainted; ///< [panels]: whether some v of the panel is not finite
    index_t base;           ///< the panel of the run with which they begin
};

/// Packs panels of the blocks' rows of one batch entry and kv head.
template <class T>
class key_packer {
    using A = accumulator_t<T>;

public:
    key_packer(const engine<T>& code, const panel_plan& plan, std::span<const key_block<T>> blocks, index_t columns)
        : code_(code), plan_(plan), blocks_(blocks), dim_(blocks.front().k.shape().dim),
          dim_v_(blocks.front().v.shape().dim), columns_(columns) {}

    /// The panel of run r, to its place in `to`.
    void pack(std::size_t r, index_t panel, index_t b, index_t kv_head, const key_panels<A>& to) const {
        const index_t at = panel - to.base;
        panel_rows<T, most_panel_keys> k, v;
        plan_.for_each_part(r, panel, keys_ahead,
                            [&](std::size_t source, index_t row, index_t key, index_t every, index_t count) {
                                k.set(key, every, count, blocks_[source].k, b, row, kv_head);
                                v.set(key, every, count, blocks_[source].v, b, row, kv_head);
                            });
        k.pack_keys(code_, 0, dim_, to.k + at * code_.keys_of_panel(dim_));
        to.tainted[at] =
            !v.pack_values(code_, 0, dim_v_, to.v + at * code_.values_of_panel(columns_), code_.value_step(columns_));
    }

    /// Panels [begin, end) of run r where they lie; none where the kernel cannot read them there.
    [[nodiscard]] keys_in_place<T> in_place(std::size_t r, index_t begin, index_t end, index_t b,
                                            index_t kv_head) const {
        const panel_plan::place at = plan_.place_of(r, begin, end);
        const tensor_view<const T>&k = blocks_[at.source].k, &v = blocks_[at.source].v;
        if (at.panels == 0 || dim_ % (code_.lanes * code_.packing) != 0 || dim_v_ != columns_ || k.step().dim != 1 ||
            v.step().dim != 1)
            return {};
        return {k.at(b, at.row, kv_head), v.at(b, at.row, kv_head), k.step().seq, v.step().seq, at.panels};
    }

private:
    const engine<T>& code_;
    const panel_plan& plan_;
    std::span<const key_block<T>> blocks_;
    index_t dim_, dim_v_, columns_;
};

} // namespace seqpar::flash_detail
