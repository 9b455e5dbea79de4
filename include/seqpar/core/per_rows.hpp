#pragma once

#include <seqpar/core/origin.hpp>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace seqpar {

/// One value for each set of rows that is wanted in a round, whoever wants it: rows are packed once for all that receive
/// the same ones. What the next round wants again stays.
template <class Value>
class per_rows {
public:
    /// Drops what is not wanted any more, then makes what is new: make(rows). `wanted` must outlive the round.
    template <class Make>
    void next_round(std::span<const positions* const> wanted, const Make& make) {
        std::erase_if(all_, [&](const entry& e) {
            return std::ranges::none_of(wanted, [&](const positions* rows) { return *rows == e.rows; });
        });
        for (const positions* rows : wanted)
            if (find(*rows) == all_.end()) all_.push_back({*rows, make(*rows)});
    }

    /// The value of rows that are wanted in this round.
    [[nodiscard]] const Value& of(const positions& rows) const { return find(rows)->value; }

private:
    struct entry {
        positions rows;
        Value value;
    };
    [[nodiscard]] auto find(const positions& rows) const {
        return std::find_if(all_.begin(), all_.end(), [&](const entry& e) { return e.rows == rows; });
    }

    std::vector<entry> all_;
};

} // namespace seqpar
