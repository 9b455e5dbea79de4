#pragma once

#include <seqpar/score/parts.hpp>
#include <seqpar/score/score.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace seqpar::flash_detail {

/// What a score does to the values of a tile's rows, asked by the code of an instruction set, which does not hold the
/// score's own: once for a row and the keys [first, last) of a run, never for an element. Arrays begin at key `first`.
template <class A>
class row_changes {
public:
    /// Whether weights are dropped; whether gradients of slopes are wanted.
    bool drops = false, slopes = false;

    /// x, scale * q . k, becomes the score; with `slope`, that is set to its derivative.
    virtual void modify(index_t row, index_t first, index_t last, A* x, A* slope) const = 0;
    /// Sets z to what the weights are multiplied by.
    virtual void drop(index_t row, index_t first, index_t last, A* z) const = 0;
    /// What dS adds to the gradient of the head's slope.
    [[nodiscard]] virtual double slope_gradient(index_t row, index_t first, index_t last, const A* ds) const = 0;

protected:
    ~row_changes() = default;
};

/// Those of a score, for rows of the global heads `heads` at the positions `rows`, with a run of keys.
template <class A, score S>
class changes_of final : public row_changes<A> {
public:
    changes_of(const S& s, lengths n, index_t batch, const index_t* heads, const position* rows, const run& keys,
               bool slopes_wanted = false)
        : score_(s), n_(n), batch_(batch), heads_(heads), rows_(rows), keys_(keys) {
        this->drops = seqpar::drops(s);
        this->slopes = slopes_wanted && slopes_of(s) > 0;
    }

    void modify(index_t row, index_t first, index_t last, A* x, A* slope) const override {
        const std::size_t count = static_cast<std::size_t>(last - first);
        if (slope != nullptr) std::fill_n(slope, count, A{1});
        seqpar::modify(score_, at(row, first, last), std::span<A>(x, count),
                       slope != nullptr ? std::span<A>(slope, count) : std::span<A>{});
    }
    void drop(index_t row, index_t first, index_t last, A* z) const override {
        const std::size_t count = static_cast<std::size_t>(last - first);
        std::fill_n(z, count, A{1});
        seqpar::drop(score_, at(row, first, last), std::span<A>(z, count));
    }
    [[nodiscard]] double slope_gradient(index_t row, index_t first, index_t last, const A* ds) const override {
        return seqpar::slope_gradient(score_, at(row, first, last),
                                      std::span<const A>(ds, static_cast<std::size_t>(last - first)));
    }

private:
    [[nodiscard]] score_row at(index_t row, index_t first, index_t last) const {
        return {n_, batch_, heads_[row], rows_[row], run{keys_[first], keys_.stride, last - first}};
    }

    const S& score_;
    lengths n_;
    index_t batch_;
    const index_t* heads_;
    const position* rows_;
    run keys_;
};

} // namespace seqpar::flash_detail
