#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/document_table.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/parts.hpp>
#include <seqpar/score/score.hpp>

#include <algorithm>
#include <cstddef>
#include <ios>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// Packed sequences: a query sees the keys of its own document, and of those the ones that Inner lets it see. Written
/// documents{cu} & causal{}, in either order.
///
///     documents{cu}           self-attention: document d has rows [cu[d], cu[d + 1]) of Q and of K
///     documents{cu_q, cu_k}   each with its own boundaries, the same number of documents
///
/// cu is the cu_seqlens of FlashAttention: one entry more than documents, from 0 on, never falling. Equal entries are an
/// empty document. Rows beyond the last document's end are padding: as queries they see nothing, as keys they are not
/// seen. All entries of a batch have the same documents.
///
/// What it is composed with is asked inside each document, as if that were the whole sequence: positions begin at 0 there,
/// and alignment and window count in its own rows. So documents in documents do not compile.
///
/// visible() is O(log documents); cover() is that and the documents that have rows in the tile. Copies share the table.
template <score Inner = full>
class documents {
public:
    explicit documents(const std::vector<index_t>& cu) : documents(cu, cu) {}
    documents(const std::vector<index_t>& cu_q, const std::vector<index_t>& cu_k)
        : documents(std::make_shared<document_table>(cu_q, cu_k), Inner{}) {}

    [[nodiscard]] coverage cover(lengths, position_range q, position_range k) const {
        const std::span<const document> candidates = table_->with_queries(q);
        // Documents are in order in K too: those without keys in the range are at both ends.
        const auto first = std::partition_point(candidates.begin(), candidates.end(),
                                                [&](const document& d) { return d.keys.last < k.first; });
        for (auto d = first; d != candidates.end() && d->keys.first <= k.last; ++d) {
            const coverage c = inner_.cover(d->frame(), within(q, d->queries), within(k, d->keys));
            if (c == coverage::none) continue;
            return c == coverage::full && holds(d->queries, q) && holds(d->keys, k) ? c : coverage::partial;
        }
        return coverage::none;
    }
    [[nodiscard]] interval visible(lengths, position i, const run& keys) const {
        const std::span<const document> own = table_->with_queries({i, i});
        if (own.empty()) return {};
        const document& d = own.front();
        const interval its = between(keys, d.keys.first, d.keys.last);
        if (its.empty()) return {};
        const run mine{position(keys[its.first] - d.keys.first), keys.stride, its.last - its.first};
        const interval seen = inner_.visible(d.frame(), position(i - d.queries.first), mine) & interval{0, mine.count};
        return seen.empty() ? interval{} : interval{its.first + seen.first, its.first + seen.last};
    }

    void check() const {
        if (!table_->trouble().empty()) throw refusal(table_->trouble());
        check_score(inner_);
        if constexpr (requires { inner_.is_frame(); })
            if (inner_.is_frame())
                throw refusal(name() + ": documents inside documents; give one set of boundaries, the finer one");
    }
    /// Throws `refusal` if documents end beyond the sequence.
    void check(const attention_shape& of) const {
        const lengths end = table_->end();
        const auto within_rows = [](index_t last, index_t rows, const char* what) {
            if (last > rows)
                throw refusal(detail::concat("cu_seqlens of ", what, " ends at ", last, ", and ", what, " has ", rows,
                                             " rows: allowed is an end of at most ", rows));
        };
        within_rows(end.queries, of.queries, "Q");
        within_rows(end.keys, of.keys, "K");
        check_score(inner_, of);
    }

    static constexpr bool forward_only = seqpar::forward_only<Inner>;
    [[nodiscard]] bool lacks_derivative() const { return seqpar::lacks_derivative(inner_); }
    [[nodiscard]] score_stages stages() const { return stages_of(inner_); }
    template <class E>
    void modify(score_stage stage, const score_row& row, std::span<E> x, std::span<E> slope) const {
        in_document(row, [&](const score_row& inside, std::size_t from, std::size_t count) {
            seqpar::modify(inner_, stage, inside, x.subspan(from, count),
                           slope.empty() ? slope : slope.subspan(from, count));
        });
    }
    [[nodiscard]] index_t sinks() const { return sinks_of(inner_); }
    [[nodiscard]] double logit(index_t head) const { return logit_of(inner_, head); }
    [[nodiscard]] bool drops() const { return seqpar::drops(inner_); }
    template <class E>
    void drop(const score_row& row, std::span<E> z) const {
        in_document(row, [&](const score_row& inside, std::size_t from, std::size_t count) {
            seqpar::drop(inner_, inside, z.subspan(from, count));
        });
    }
    [[nodiscard]] index_t slopes() const { return slopes_of(inner_); }
    template <class E>
    [[nodiscard]] double slope_gradient(const score_row& row, std::span<const E> ds) const {
        double sum = 0;
        in_document(row, [&](const score_row& inside, std::size_t from, std::size_t count) {
            sum = seqpar::slope_gradient(inner_, inside, ds.subspan(from, count));
        });
        return sum;
    }
    [[nodiscard]] std::string name() const {
        const lengths end = table_->end();
        const std::string text = detail::concat("documents(", table_->count(), ", ", end.queries, " queries, ",
                                                end.keys, " keys, ", std::hex, table_->hash(), ')');
        const std::string inside = inner_.name();
        return inside == full{}.name() ? text : text + " & " + inside;
    }

    [[nodiscard]] const document_table& table() const noexcept { return *table_; }

    /// What is asked inside each document.
    [[nodiscard]] const Inner& inner() const noexcept { return inner_; }
    /// The same documents with another score inside each.
    template <score Other>
    [[nodiscard]] documents<Other> around(Other other) const {
        return {table_, std::move(other)};
    }

private:
    template <score>
    friend class documents;

    documents(std::shared_ptr<const document_table> table, Inner inner)
        : table_(std::move(table)), inner_(std::move(inner)) {}

    /// f(row, from, count): the part of a row that lies in the document of its query, in the document's own positions.
    template <class F>
    void in_document(const score_row& row, const F& f) const {
        const std::span<const document> own = table_->with_queries({row.query, row.query});
        if (own.empty()) return;
        const document& d = own.front();
        const interval its = between(row.keys, d.keys.first, d.keys.last);
        if (its.empty()) return;
        f(score_row{d.frame(), row.batch, row.head, position(row.query - d.queries.first),
                    run{position(row.keys[its.first] - d.keys.first), row.keys.stride, its.last - its.first}},
          static_cast<std::size_t>(its.first), static_cast<std::size_t>(its.last - its.first));
    }
    /// The part of a range that lies in a document, in the document's own positions.
    [[nodiscard]] static constexpr position_range within(position_range r, position_range rows) noexcept {
        return {position(std::max(r.first, rows.first) - rows.first),
                position(std::min(r.last, rows.last) - rows.first)};
    }
    [[nodiscard]] static constexpr bool holds(position_range rows, position_range r) noexcept {
        return rows.first <= r.first && r.last <= rows.last;
    }

    std::shared_ptr<const document_table> table_;
    Inner inner_;
};
static_assert(score<documents<>> && frame_score<documents<>>);

} // namespace seqpar
