#pragma once

#include <seqpar/core/origin.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace seqpar {

/// Rows of one source among the rows of the union: source rows from, from + 1, ... go to rows to, to + every, ...
struct segment {
    std::size_t source = 0;
    index_t from = 0, to = 0, every = 1, count = 0;
    friend bool operator==(const segment&, const segment&) = default;
};

/// The union of several sets of rows, and where each row of each source lies in it.
struct interleaved {
    positions rows;
    std::vector<segment> segments;
};

namespace detail {

/// A run of the union in the making, and the segments that fill it.
struct strand {
    run where;
    std::vector<segment> parts;

    /// Takes over the rows of `other`, which lie at at, at + every, ... of this run.
    void adopt(const strand& other, index_t at, index_t every) {
        for (segment part : other.parts) {
            part.to = at + every * part.to;
            part.every *= every;
            parts.push_back(part);
        }
    }
};

inline void sort_by_first(std::vector<strand>& strands) {
    std::stable_sort(strands.begin(), strands.end(),
                     [](const strand& a, const strand& b) { return a.where.first < b.where.first; });
}

/// k runs of stride s that start s / k apart, as dealt out like cards, are one run of stride s / k.
inline bool is_deal(std::span<const strand> family) {
    const index_t k = static_cast<index_t>(family.size()), stride = family.front().where.stride;
    if (k < 2 || stride % k != 0) return false;
    index_t total = 0;
    for (const strand& s : family) total += s.where.count;
    for (index_t i = 0; i < k; ++i) {
        const run& r = family[static_cast<std::size_t>(i)].where;
        if (r.first - family.front().where.first != i * (stride / k) || r.count != (total - i + k - 1) / k)
            return false;
    }
    return true;
}

inline std::vector<strand> undeal(std::vector<strand> strands) {
    std::stable_sort(strands.begin(), strands.end(), [](const strand& a, const strand& b) {
        return std::pair(a.where.stride, a.where.first) < std::pair(b.where.stride, b.where.first);
    });
    std::vector<strand> result;
    for (auto begin = strands.begin(); begin != strands.end();) {
        const auto end =
            std::find_if(begin, strands.end(), [&](const strand& s) { return s.where.stride != begin->where.stride; });
        if (is_deal({begin, end})) {
            const index_t k = end - begin;
            strand whole{{begin->where.first, begin->where.stride / k, 0}, {}};
            for (auto it = begin; it != end; ++it) {
                whole.adopt(*it, it - begin, k);
                whole.where.count += it->where.count;
            }
            result.push_back(std::move(whole));
        } else {
            std::move(begin, end, std::back_inserter(result));
        }
        begin = end;
    }
    return result;
}

/// Runs that follow each other at an even step are one run. A single row follows at any step.
inline std::vector<strand> chain(std::vector<strand> strands) {
    sort_by_first(strands);
    std::vector<strand> result;
    for (strand& next : strands) {
        if (!result.empty()) {
            strand& open = result.back();
            const index_t step = next.where.first - open.where.last();
            const bool continues = step >= 1 && (open.where.count == 1 || open.where.stride == step) &&
                                   (next.where.count == 1 || next.where.stride == step);
            if (continues) {
                open.adopt(next, open.where.count, 1);
                open.where.stride = step;
                open.where.count += next.where.count;
                continue;
            }
        }
        result.push_back(std::move(next));
    }
    return result;
}

} // namespace detail

/// The union of the rows of several sources, in as few runs as affine runs allow: for sources that together are a whole
/// sequence under contiguous, zigzag or striped layouts, one run in global order. Sources must not share a position.
/// O(R log R) in the number of runs, whatever the number of rows.
[[nodiscard]] inline interleaved interleave(std::span<const positions> sources) {
    std::vector<detail::strand> strands;
    for (std::size_t source = 0; source < sources.size(); ++source) {
        index_t from = 0;
        for (const run& r : sources[source].runs()) {
            strands.push_back({r, {segment{source, from, 0, 1, r.count}}});
            from += r.count;
        }
    }
    strands = detail::chain(detail::undeal(std::move(strands)));

    interleaved result;
    for (const detail::strand& s : strands) {
        for (segment part : s.parts) {
            part.to += result.rows.size();
            result.segments.push_back(part);
        }
        result.rows.append(s.where.count == 1 ? run{s.where.first, 1, 1} : s.where);
    }
    return result;
}

/// Copies the rows of the sources to their places in the union. sources[i]: [batch, rows of i, heads, dim];
/// whole: [batch, rows of the union, heads, dim].
template <class T>
void assemble(const interleaved& plan, std::span<const tensor_view<const T>> sources, const tensor_view<T>& whole) {
    for (const segment& s : plan.segments)
        copy(sources[s.source].rows(s.from, s.count), whole.rows(s.to, s.count, s.every));
}

/// The inverse of assemble.
template <class T>
void disassemble(const interleaved& plan, const tensor_view<const T>& whole, std::span<const tensor_view<T>> sources) {
    for (const segment& s : plan.segments)
        copy(whole.rows(s.to, s.count, s.every), sources[s.source].rows(s.from, s.count));
}

} // namespace seqpar
