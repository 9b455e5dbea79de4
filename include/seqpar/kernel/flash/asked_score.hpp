#pragma once

#include <seqpar/score/parts.hpp>
#include <seqpar/score/score.hpp>

#include <span>

namespace seqpar::flash_detail {

/// A score as the passes ask it: for a tile, for a row of a tile with some keys of a run, never for an element. One type for all
/// scores, so that the passes are compiled once.
template <class A>
class asked_score {
public:
    /// As changes_values, seqpar::drops and slopes_of say.
    bool changes = false, drops = false;
    index_t slopes = 0;

    [[nodiscard]] virtual coverage cover(lengths n, position_range q, position_range k) const = 0;
    [[nodiscard]] virtual interval visible(lengths n, position i, const run& keys) const = 0;
    /// x, scale * q . k, becomes the score; with `slope`, all ones, that becomes its derivative.
    virtual void modify(const score_row& row, std::span<A> x, std::span<A> slope) const = 0;
    /// z, all ones, becomes what the weights are multiplied by.
    virtual void drop(const score_row& row, std::span<A> z) const = 0;
    /// What dS adds to the gradient of the head's slope.
    [[nodiscard]] virtual double slope_gradient(const score_row& row, std::span<const A> ds) const = 0;

protected:
    ~asked_score() = default;
};

template <class A, score S>
class asked_score_of final : public asked_score<A> {
public:
    explicit asked_score_of(const S& s) : score_(s) {
        this->changes = changes_values(s);
        this->drops = seqpar::drops(s);
        this->slopes = slopes_of(s);
    }

    [[nodiscard]] coverage cover(lengths n, position_range q, position_range k) const override {
        return score_.cover(n, q, k);
    }
    [[nodiscard]] interval visible(lengths n, position i, const run& keys) const override {
        return score_.visible(n, i, keys);
    }
    void modify(const score_row& row, std::span<A> x, std::span<A> slope) const override {
        seqpar::modify(score_, row, x, slope);
    }
    void drop(const score_row& row, std::span<A> z) const override { seqpar::drop(score_, row, z); }
    [[nodiscard]] double slope_gradient(const score_row& row, std::span<const A> ds) const override {
        return seqpar::slope_gradient(score_, row, ds);
    }

private:
    const S& score_;
};

} // namespace seqpar::flash_detail
