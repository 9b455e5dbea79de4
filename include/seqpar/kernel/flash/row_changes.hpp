#pragma once

#include <seqpar/kernel/flash/asked_score.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace seqpar::flash_detail {

/// What a score does to the values of a tile's rows, at the positions `rows` of the global heads `heads`, with a run of keys.
/// Asked once for a row and the keys [first, last) of the run, never for an element. Arrays begin at key `first`.
template <class A>
class row_changes {
public:
    bool drops;  ///< weights
    bool slopes; ///< gradients of slopes are wanted

    row_changes(const asked_score<A>& s, lengths n, index_t batch, const index_t* heads, const position* rows,
                const run& keys, bool slopes_wanted = false)
        : drops(s.drops), slopes(slopes_wanted && s.slopes > 0), score_(s), n_(n), batch_(batch), heads_(heads),
          rows_(rows), keys_(keys) {}

    /// x, scale * q . k, becomes the score; with `slope`, that is set to its derivative.
    void modify(index_t row, index_t first, index_t last, A* x, A* slope) const {
        const std::size_t count = static_cast<std::size_t>(last - first);
        if (slope != nullptr) std::fill_n(slope, count, A{1});
        score_.modify(at(row, first, last), std::span<A>(x, count),
                      slope != nullptr ? std::span<A>(slope, count) : std::span<A>{});
    }
    /// Sets z to what the weights are multiplied by.
    void drop(index_t row, index_t first, index_t last, A* z) const {
        const std::size_t count = static_cast<std::size_t>(last - first);
        std::fill_n(z, count, A{1});
        score_.drop(at(row, first, last), std::span<A>(z, count));
    }
    /// What dS adds to the gradient of the head's slope.
    [[nodiscard]] double slope_gradient(index_t row, index_t first, index_t last, const A* ds) const {
        return score_.slope_gradient(at(row, first, last),
                                     std::span<const A>(ds, static_cast<std::size_t>(last - first)));
    }

private:
    [[nodiscard]] score_row at(index_t row, index_t first, index_t last) const {
        return {n_, batch_, heads_[row], rows_[row], run{keys_[first], keys_.stride, last - first}};
    }

    const asked_score<A>& score_;
    lengths n_;
    index_t batch_;
    const index_t* heads_;
    const position* rows_;
    run keys_;
};

} // namespace seqpar::flash_detail
