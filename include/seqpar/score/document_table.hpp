#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/mixed.hpp>
#include <seqpar/score/score.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace seqpar {

/// One document of a packed sequence: its rows of Q and its rows of K. Neither is empty.
struct document {
    position_range queries, keys;

    /// The document as a sequence of its own.
    [[nodiscard]] constexpr lengths frame() const noexcept {
        return {queries.last - queries.first + 1, keys.last - keys.first + 1, queries.first, keys.first};
    }
};

/// Where the documents of a packed sequence begin and end.
class document_table {
public:
    /// Document d has rows [cu_q[d], cu_q[d + 1]) of Q and [cu_k[d], cu_k[d + 1]) of K.
    document_table(std::span<const index_t> cu_q, std::span<const index_t> cu_k) {
        trouble_ = trouble_of(cu_q, cu_k);
        if (!trouble_.empty()) return;
        for (std::size_t d = 0; d + 1 < cu_q.size(); ++d) {
            hash_ = mixed(hash_, static_cast<std::uint64_t>(cu_q[d + 1]));
            hash_ = mixed(hash_, static_cast<std::uint64_t>(cu_k[d + 1]));
            // A document without queries asks nothing, and one without keys shows nothing.
            if (cu_q[d] < cu_q[d + 1] && cu_k[d] < cu_k[d + 1])
                seen_.push_back(
                    {{position(cu_q[d]), position(cu_q[d + 1] - 1)}, {position(cu_k[d]), position(cu_k[d + 1] - 1)}});
        }
        count_ = cu_q.size() - 1;
        end_ = {cu_q.back(), cu_k.back()};
    }

    /// Documents, the empty ones included.
    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    /// Rows up to the end of the last document.
    [[nodiscard]] lengths end() const noexcept { return end_; }
    /// Equal for equal documents, and as good as never for others.
    [[nodiscard]] std::uint64_t hash() const noexcept { return hash_; }
    /// What is wrong with it; empty if nothing is.
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }

    /// The documents that have both queries and keys, in order.
    [[nodiscard]] std::span<const document> seen() const noexcept { return seen_; }
    /// Those of them that have a query in the range. O(log documents).
    [[nodiscard]] std::span<const document> with_queries(position_range q) const noexcept {
        const auto first = std::partition_point(seen_.begin(), seen_.end(),
                                                [&](const document& d) { return d.queries.last < q.first; });
        const auto last =
            std::partition_point(first, seen_.end(), [&](const document& d) { return d.queries.first <= q.last; });
        return {first, last};
    }

private:
    [[nodiscard]] static std::string trouble_of(std::span<const index_t> cu_q, std::span<const index_t> cu_k) {
        const auto wrong = [](const char* what, std::span<const index_t> cu) -> std::string {
            if (cu.empty()) return detail::concat("cu_seqlens of ", what, " is empty: it must begin with 0");
            if (cu.front() != 0)
                return detail::concat("cu_seqlens of ", what, " begins with ", cu.front(), ": it must begin with 0");
            const auto falls = std::adjacent_find(cu.begin(), cu.end(), [](index_t a, index_t b) { return b < a; });
            if (falls != cu.end())
                return detail::concat("cu_seqlens of ", what, " falls from ", falls[0], " to ", falls[1], " at entry ",
                                      falls - cu.begin() + 1,
                                      ": it must not fall; an empty document repeats its entry");
            return {};
        };
        if (std::string q = wrong("Q", cu_q); !q.empty()) return q;
        if (std::string k = wrong("K", cu_k); !k.empty()) return k;
        if (cu_q.size() != cu_k.size())
            return detail::concat("cu_seqlens has ", cu_q.size() - 1, " documents for Q and ", cu_k.size() - 1,
                                  " for K: they must be as many; one that is missing on a side is empty there");
        return {};
    }

    std::vector<document> seen_;
    std::size_t count_ = 0;
    lengths end_;
    std::uint64_t hash_ = 0;
    std::string trouble_;
};

} // namespace seqpar
