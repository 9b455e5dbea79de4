#pragma once

#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <cassert>
#include <compare>
#include <initializer_list>
#include <vector>

namespace seqpar {

/// A place in the global sequence. A type of its own, since a local row must never be mistaken for one.
struct position {
    index_t value = 0;

    constexpr position() = default;
    explicit constexpr position(index_t at) noexcept : value(at) {}
    friend constexpr auto operator<=>(const position&, const position&) = default;
    friend constexpr position operator+(position p, index_t by) noexcept { return position(p.value + by); }
    friend constexpr index_t operator-(position a, position b) noexcept { return a.value - b.value; }
};

/// A closed range of positions. Empty when last < first.
struct position_range {
    position first{0}, last{-1};
    [[nodiscard]] constexpr bool empty() const noexcept { return last < first; }
};

/// Positions first, first + stride, ..., count of them. stride >= 1.
struct run {
    position first;
    index_t stride = 1;
    index_t count = 0;

    [[nodiscard]] constexpr position operator[](index_t i) const noexcept { return first + i * stride; }
    [[nodiscard]] constexpr position last() const noexcept { return (*this)[count - 1]; }
    [[nodiscard]] constexpr position_range range() const noexcept {
        return count == 0 ? position_range{} : position_range{first, last()};
    }
    friend constexpr bool operator==(const run&, const run&) = default;
};

/// The global positions of the rows of a block, in the order of the rows: a list of runs, none of them empty.
class positions {
public:
    positions() = default;
    positions(std::initializer_list<run> runs) {
        for (const run& r : runs) append(r);
    }

    /// The rows [0, count) of a whole sequence.
    [[nodiscard]] static positions whole(index_t count) { return {run{position{0}, 1, count}}; }

    void append(const run& r) {
        assert(r.count >= 0 && r.stride >= 1);
        if (r.count == 0) return;
        runs_.push_back(r);
        size_ += r.count;
    }

    [[nodiscard]] const std::vector<run>& runs() const noexcept { return runs_; }
    /// Number of rows.
    [[nodiscard]] index_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

    /// From the least position to the greatest. O(runs).
    [[nodiscard]] position_range range() const noexcept {
        if (runs_.empty()) return {};
        position_range all = runs_.front().range();
        for (const run& r : runs_) all = {std::min(all.first, r.first), std::max(all.last, r.last())};
        return all;
    }

    /// Position of a row. O(runs).
    [[nodiscard]] position operator[](index_t row) const noexcept {
        for (const run& r : runs_) {
            if (row < r.count) return r[row];
            row -= r.count;
        }
        assert(false && "row out of range");
        return position{-1};
    }

    friend bool operator==(const positions&, const positions&) = default;

private:
    std::vector<run> runs_;
    index_t size_ = 0;
};

/// Heads [first, first + count) of the global heads.
struct head_range {
    index_t first = 0, count = 0;
    friend constexpr bool operator==(const head_range&, const head_range&) = default;
};

/// Where a block comes from: the global positions of its rows and the global indices of its heads.
/// Never sent: every rank computes every other's from the layout.
struct origin {
    positions rows;
    head_range heads;
    friend bool operator==(const origin&, const origin&) = default;
};

} // namespace seqpar
