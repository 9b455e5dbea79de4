#pragma once

#include <seqpar/core/block.hpp>
#include <seqpar/core/interleave.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::flash_detail {

/// Where each key of a union of blocks goes: panels of `panel_keys` keys, cut within each run of the union, the last
/// of a run padded. A function of the positions only, so that the same keys make the same panels however they were
/// sharded.
class panel_plan {
public:
    panel_plan(std::span<const positions> sources, index_t panel_keys)
        : keys_(interleave(sources)), panel_keys_(panel_keys) {
        first_panel_.push_back(0);
        for (const run& r : runs())
            first_panel_.push_back(first_panel_.back() + (r.count + panel_keys - 1) / panel_keys);
    }

    [[nodiscard]] const std::vector<run>& runs() const noexcept { return keys_.rows.runs(); }
    [[nodiscard]] const std::vector<segment>& segments() const noexcept { return keys_.segments; }
    [[nodiscard]] index_t panel_keys() const noexcept { return panel_keys_; }
    [[nodiscard]] index_t panels() const noexcept { return first_panel_.back(); }
    [[nodiscard]] index_t first_panel(std::size_t r) const noexcept { return first_panel_[r]; }

private:
    interleaved keys_;
    index_t panel_keys_;
    std::vector<index_t> first_panel_; // of each run, and the end
};

/// Keys and values of one head in the kernel's order and type.
template <class A>
struct key_panels {
    A* k;                   ///< [panels][dim][panel_keys]
    A* v;                   ///< [panels][panel_keys][columns]
    unsigned char* tainted; ///< [panels]: whether some v of the panel is not finite
    index_t dim, columns;
};

/// Packs the blocks' rows of one batch entry and kv head, each read once, in pieces that may run at once.
template <class T, class A>
class key_packer {
public:
    key_packer(const panel_plan& plan, std::span<const key_block<T>> blocks, const key_panels<A>& to)
        : plan_(plan), blocks_(blocks), to_(to),
          piece_rows_(std::max(index_t{1}, piece_elements / std::max(index_t{1}, to.dim + to.columns))) {
        first_piece_.push_back(0);
        for (const segment& s : plan.segments())
            first_piece_.push_back(first_piece_.back() + (s.count + piece_rows_ - 1) / piece_rows_);
        for (const segment& s : plan.segments()) run_of_.push_back(run_at(s.to));
    }

    /// The last pieces are the padding, one a run.
    [[nodiscard]] index_t pieces() const noexcept {
        return first_piece_.back() + static_cast<index_t>(plan_.runs().size());
    }

    void pack(index_t piece, index_t b, index_t kv_head) const {
        if (piece >= first_piece_.back()) return pad(static_cast<std::size_t>(piece - first_piece_.back()));
        const auto after = std::upper_bound(first_piece_.begin(), first_piece_.end(), piece);
        const std::size_t n = static_cast<std::size_t>(after - first_piece_.begin()) - 1;
        const segment& s = plan_.segments()[n];
        const index_t begin = (piece - first_piece_[n]) * piece_rows_, end = std::min(begin + piece_rows_, s.count);
        const auto [r, run_begin] = run_of_[n];
        const key_block<T>& from = blocks_[s.source];
        const index_t panel_keys = plan_.panel_keys();
        for (index_t i = begin; i < end; ++i) {
            const index_t at = s.to + i * s.every - run_begin; // in the run
            const index_t panel = plan_.first_panel(r) + at / panel_keys, lane = at % panel_keys;
            put_key(from.k.at(b, s.from + i, kv_head), from.k.step().dim, panel, lane);
            put_value(from.v.at(b, s.from + i, kv_head), from.v.step().dim, from.v.shape().dim, panel, lane);
        }
    }

private:
    static constexpr index_t piece_elements = 1 << 15;

    struct place {
        std::size_t run;
        index_t begin;
    };

    [[nodiscard]] place run_at(index_t key) const {
        place at{0, 0};
        while (key - at.begin >= plan_.runs()[at.run].count) at.begin += plan_.runs()[at.run++].count;
        return at;
    }

    [[nodiscard]] A* key(index_t panel, index_t lane) const {
        return to_.k + panel * to_.dim * plan_.panel_keys() + lane;
    }
    [[nodiscard]] A* value(index_t panel, index_t lane) const {
        return to_.v + (panel * plan_.panel_keys() + lane) * to_.columns;
    }

    void put_key(const T* from, index_t step, index_t panel, index_t lane) const {
        A* to = key(panel, lane);
        for (index_t d = 0; d < to_.dim; ++d) to[d * plan_.panel_keys()] = static_cast<A>(from[d * step]);
    }

    void put_value(const T* from, index_t step, index_t dim, index_t panel, index_t lane) const {
        A* to = value(panel, lane);
        bool finite = true;
        for (index_t d = 0; d < dim; ++d) {
            to[d] = static_cast<A>(from[d * step]);
            finite &= std::isfinite(to[d]);
        }
        std::fill(to + dim, to + to_.columns, A{});
        // Pieces that run at once may meet in a panel.
        if (!finite) std::atomic_ref(to_.tainted[panel]).store(1, std::memory_order_relaxed);
    }

    void pad(std::size_t r) const {
        const index_t panel_keys = plan_.panel_keys(), used = plan_.runs()[r].count % panel_keys;
        if (used == 0) return;
        const index_t panel = plan_.first_panel(r + 1) - 1;
        for (index_t lane = used; lane < panel_keys; ++lane) {
            for (index_t d = 0; d < to_.dim; ++d) key(panel, lane)[d * panel_keys] = A{};
            std::fill_n(value(panel, lane), to_.columns, A{});
        }
    }

    const panel_plan& plan_;
    std::span<const key_block<T>> blocks_;
    key_panels<A> to_;
    index_t piece_rows_;
    std::vector<index_t> first_piece_; // of each segment, and the end
    std::vector<place> run_of_;        // each segment's
};

} // namespace seqpar::flash_detail
