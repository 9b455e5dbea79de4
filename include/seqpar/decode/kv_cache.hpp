#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/mixed.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/decode/dealt_rows.hpp>
#include <seqpar/layout/striped.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// The sizes of a cache that do not change.
struct cache_shape {
    index_t batch = 1, kv_heads = 0;
    index_t dim = 0, dim_v = 0; ///< head_dim of K; of V
    friend bool operator==(const cache_shape&, const cache_shape&) = default;
};

/// Keys and values of `batch` sequences, each of its own length, sharded over ranks: this rank's rows. Appended to a token
/// or a chunk at a time; a row stays on the rank it was dealt to (dealt_rows says which that is), so appending sends
/// nothing. Every rank calls the same changes in the same order.
///
/// A sequence's storage doubles when it is full, which copies it: views of it last until the next change.
/// reserve() makes room beforehand. Memory: bytes(), and while a sequence grows, its former storage on top.
template <real_element T, layout L = striped>
class kv_cache {
public:
    /// An empty cache for this rank of a group. No communication.
    /// @throws refusal if a size is negative, or kv_heads or a head_dim is 0
    template <communicator C>
    kv_cache(const C& ranks, const cache_shape& shape, L how = {},
             std::pmr::memory_resource* memory = std::pmr::get_default_resource())
        : rank_(ranks.rank()), size_(ranks.size()), shape_(shape), layout_(std::move(how)), memory_(memory) {
        if (shape.batch < 0 || shape.kv_heads < 1 || shape.dim < 1 || shape.dim_v < 1)
            throw refusal(detail::concat("a cache of batch ", shape.batch, ", kv_heads ", shape.kv_heads, ", head_dim ",
                                         shape.dim, " of K and ", shape.dim_v,
                                         " of V: batch must be at least 0, the others at least 1"));
        for (index_t b = 0; b < shape.batch; ++b) entries_.emplace_back(size_, shape, memory);
    }

    /// Appends counts[b] tokens to sequence b: rows [0, counts[b]) of k [batch, c, kv_heads, head_dim] and v [batch, c,
    /// kv_heads, head_dim of v], the same on every rank, of which each keeps its own. Without counts, c to each.
    /// @throws refusal if shapes or counts do not fit; nothing has changed then
    void append(const tensor_view<const T>& k, const tensor_view<const T>& v, std::span<const index_t> counts = {}) {
        const std::vector<index_t> all(static_cast<std::size_t>(shape_.batch), k.shape().seq);
        if (counts.empty()) counts = all;
        check(k, v, counts, [](const auto&, index_t count) { return count; });
        take(counts, [&](index_t b, index_t length, const positions& mine, index_t at) {
            for (const run& r : mine.runs()) {
                const index_t first = r.first.value - length;
                store(b, row_of(k, b).rows(first, r.count, r.stride), row_of(v, b).rows(first, r.count, r.stride), at);
                at += r.count;
            }
        });
    }

    /// The same, with only this rank's rows: of sequence b those at share(b, counts[b]), in that order, and no more. After
    /// prefill with the same layout that is what the rank has: k [batch, its rows at most, kv_heads, head_dim].
    void append_own(const tensor_view<const T>& k, const tensor_view<const T>& v, std::span<const index_t> counts) {
        check(k, v, counts,
              [&](const entry& e, index_t count) { return e.where.deal(layout_, count).of(rank_).size(); });
        take(counts, [&](index_t b, index_t, const positions& mine, index_t at) {
            store(b, row_of(k, b).rows(0, mine.size()), row_of(v, b).rows(0, mine.size()), at);
        });
    }

    /// Positions of the rows that this rank will hold of the next `tokens` of sequence b.
    /// @throws refusal if tokens is negative, or there is no such sequence
    [[nodiscard]] positions share(index_t b, index_t tokens) const {
        if (tokens < 0) throw refusal(detail::concat("the share of ", tokens, " tokens: at least 0 is allowed"));
        return at(b).where.deal(layout_, tokens).of(rank_);
    }

    /// Drops the tokens of sequence b from that position on: what was speculated in vain; with 0, all.
    /// @throws refusal as dealt_rows::truncate does, or if there is no such sequence
    void truncate(index_t b, index_t length) {
        at(b).where.truncate(length);
        note(b, -1 - length);
    }

    /// Makes room for sequences of that many tokens, evenly dealt.
    void reserve(index_t tokens) {
        for (entry& e : entries_) grow(e, (tokens + size_ - 1) / size_);
    }

    [[nodiscard]] const cache_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] int rank() const noexcept { return rank_; }
    [[nodiscard]] int size() const noexcept { return size_; }
    [[nodiscard]] const L& layout() const noexcept { return layout_; }
    /// Tokens of sequence b, on all ranks. This and what follows throw a refusal if there is no such sequence.
    [[nodiscard]] index_t length(index_t b) const { return at(b).where.length(); }
    /// Which of them a rank holds, in the order of its rows.
    [[nodiscard]] positions held_by(int rank, index_t b) const { return at(b).where.of(rank); }
    /// This rank's rows of sequence b: [1, rows, kv_heads, head_dim] and [1, rows, kv_heads, head_dim of v].
    [[nodiscard]] tensor_view<const T> k(index_t b) const { return at(b).k.view().rows(0, rows(at(b))); }
    [[nodiscard]] tensor_view<const T> v(index_t b) const { return at(b).v.view().rows(0, rows(at(b))); }
    /// Storage of this rank, room to grow included.
    [[nodiscard]] std::size_t bytes() const {
        std::size_t sum = 0;
        for (const entry& e : entries_) sum += tensor<T>::bytes(e.k.shape()) + tensor<T>::bytes(e.v.shape());
        return sum;
    }
    /// A number that is equal for caches with the same changes in the same order, and as good as never for others.
    [[nodiscard]] std::uint64_t history() const noexcept { return history_; }

private:
    struct entry {
        entry(int size, const cache_shape& s, std::pmr::memory_resource* memory)
            : where(size), k({1, 0, s.kv_heads, s.dim}, format::bshd, memory),
              v({1, 0, s.kv_heads, s.dim_v}, format::bshd, memory) {}
        dealt_rows where;
        tensor<T> k, v; // [1, capacity, kv_heads, head_dim]
    };

    [[nodiscard]] std::size_t index(index_t b) const {
        if (b < 0 || b >= shape_.batch)
            throw refusal(detail::concat("sequence ", b, " of a cache of ", shape_.batch,
                                         " sequences: allowed are 0 to ", shape_.batch - 1));
        return static_cast<std::size_t>(b);
    }
    [[nodiscard]] const entry& at(index_t b) const { return entries_[index(b)]; }
    [[nodiscard]] entry& at(index_t b) { return entries_[index(b)]; }
    [[nodiscard]] index_t rows(const entry& e) const { return e.where.count(rank_); }

    /// One sequence of a batch.
    [[nodiscard]] static tensor_view<const T> row_of(const tensor_view<const T>& x, index_t b) noexcept {
        const extents& e = x.shape();
        return {e.count() == 0 ? nullptr : x.at(b, 0, 0), {1, e.seq, e.heads, e.dim}, x.step()};
    }

    /// needed(sequence, count): rows that k and v must have.
    template <class Needed>
    void check(const tensor_view<const T>& k, const tensor_view<const T>& v, std::span<const index_t> counts,
               const Needed& needed) const {
        const extents &ke = k.shape(), &ve = v.shape();
        const extents want_k{shape_.batch, ke.seq, shape_.kv_heads, shape_.dim},
            want_v{shape_.batch, ke.seq, shape_.kv_heads, shape_.dim_v};
        if (ke != want_k) throw refusal(detail::concat("K to append is ", ke, ": it must be ", want_k));
        if (ve != want_v) throw refusal(detail::concat("V to append is ", ve, ": it must be ", want_v));
        if (counts.size() != entries_.size())
            throw refusal(detail::concat(counts.size(), " counts for a batch of ", shape_.batch,
                                         ": allowed is one for each sequence"));
        for (std::size_t b = 0; b < counts.size(); ++b) {
            if (counts[b] < 0)
                throw refusal(
                    detail::concat("sequence ", b, " is to get ", counts[b], " tokens: at least 0 is allowed"));
            if (const index_t rows = needed(entries_[b], counts[b]); rows > ke.seq)
                throw refusal(detail::concat("sequence ", b, " is to get ", rows, " rows on rank ", rank_,
                                             ", and K and V have ", ke.seq, ": allowed are 0 to that"));
        }
    }

    /// Deals counts, and has put(b, the length before, this rank's positions, its first row) store them.
    template <class Put>
    void take(std::span<const index_t> counts, const Put& put) {
        std::vector<dealt_rows::chunk> dealt;
        for (std::size_t b = 0; b < counts.size(); ++b) {
            dealt.push_back(entries_[b].where.deal(layout_, counts[b]));
            grow(entries_[b], rows(entries_[b]) + dealt[b].of(rank_).size());
        }
        for (std::size_t b = 0; b < counts.size(); ++b) {
            entry& e = entries_[b];
            const index_t number = static_cast<index_t>(b);
            const positions& mine = dealt[b].of(rank_);
            if (!mine.empty()) put(number, e.where.length(), mine, rows(e));
            e.where.append(dealt[b]);
            note(number, counts[b]);
        }
    }

    /// Puts rows [1, count, kv_heads, ...] behind the first `to` of sequence b.
    void store(index_t b, const tensor_view<const T>& k, const tensor_view<const T>& v, index_t to) {
        entry& e = at(b);
        copy(k, e.k.view().rows(to, k.shape().seq));
        copy(v, e.v.view().rows(to, v.shape().seq));
    }

    void grow(entry& e, index_t needed) {
        const index_t capacity = e.k.shape().seq;
        if (needed <= capacity) return;
        const index_t room = std::max(needed, 2 * capacity), kept = rows(e);
        tensor<T> k = tensor<T>::unset({1, room, shape_.kv_heads, shape_.dim}, memory_),
                  v = tensor<T>::unset({1, room, shape_.kv_heads, shape_.dim_v}, memory_);
        copy(std::as_const(e.k).view().rows(0, kept), k.view().rows(0, kept));
        copy(std::as_const(e.v).view().rows(0, kept), v.view().rows(0, kept));
        e.k = std::move(k);
        e.v = std::move(v);
    }

    void note(index_t b, index_t change) noexcept {
        history_ = mixed(mixed(history_, static_cast<std::uint64_t>(b)), static_cast<std::uint64_t>(change));
    }

    int rank_, size_;
    cache_shape shape_;
    L layout_;
    std::pmr::memory_resource* memory_;
    std::vector<entry> entries_;
    std::uint64_t history_ = 0;
};

} // namespace seqpar
