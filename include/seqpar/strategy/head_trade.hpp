#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/core/interleave.hpp>
#include <seqpar/core/placement.hpp>
#include <seqpar/strategy/head_share.hpp>
#include <seqpar/strategy/parcel.hpp>

#include <cstddef>
#include <memory_resource>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace seqpar {

/// Whose rows a tensor has.
enum class row_side { queries, keys };

/// Who in a head-parallel group has which heads and which rows.
struct head_trade {
    std::span<const placement> members;
    std::vector<head_share> shares;
    interleaved rows, keys; ///< of the whole group
    std::size_t me;

    /// `group`: query heads per kv head.
    head_trade(std::span<const placement> ranks, index_t group, int rank)
        : members(ranks), shares(share_heads(ranks.front().queries.heads, group, static_cast<int>(ranks.size()))),
          rows(join_rows(ranks, &placement::queries)), keys(join_rows(ranks, &placement::keys)),
          me(static_cast<std::size_t>(rank)) {}

    [[nodiscard]] std::size_t size() const noexcept { return members.size(); }
    [[nodiscard]] const head_share& mine() const { return shares[me]; }
    [[nodiscard]] const interleaved& whole(row_side of) const noexcept { return of == row_side::queries ? rows : keys; }
    [[nodiscard]] index_t rows_of(std::size_t j, row_side of) const {
        return (of == row_side::queries ? members[j].queries : members[j].keys).rows.size();
    }
    [[nodiscard]] const head_range& heads_of(std::size_t j, row_side of) const {
        return of == row_side::queries ? shares[j].queries : shares[j].keys;
    }
    /// The heads of member j in a tensor that has all heads of this rank's rows.
    template <class T>
    [[nodiscard]] tensor_view<T> part(const tensor_view<T>& all, std::size_t j, row_side of) const {
        const head_range& have = of == row_side::queries ? members[me].queries.heads : members[me].keys.heads;
        const head_range& want = heads_of(j, of);
        return all.heads(want.first - have.first, want.count);
    }
    /// Whether some kv head is read by several members.
    [[nodiscard]] bool shares_keys() const {
        index_t readers = 0;
        for (const head_share& share : shares) readers += share.keys.count;
        return readers > members[me].keys.heads.count;
    }
};

/// A tensor that changes from rows to heads. Default views: it stays at home.
template <element T>
struct rows_to_heads {
    tensor_view<const T> home; ///< [batch, this rank's rows, heads, dim]
    tensor_view<T> longer;     ///< [batch, rows of the group, this rank's share of the heads, dim], written
    row_side of = row_side::queries;
};

/// A tensor that changes from heads to rows, and travels in elements of E. It is written over `home` or, with Add, added
/// to it in the order of the members. Default views: it stays.
template <element E, element From, element To, bool Add = false>
struct heads_to_rows {
    static constexpr bool adds = Add;
    tensor_view<const From> longer; ///< [batch, rows of the group, this rank's share of the heads, dim]
    tensor_view<To> home;           ///< [batch, this rank's rows, heads, dim]
    row_side of = row_side::queries;
};

namespace detail {

/// One parcel to each other member. Those that were sent are freed.
template <communicator C>
void trade_parcels(C& group, std::vector<parcel>& out, std::vector<parcel>& in) {
    std::vector<outgoing> sent;
    std::vector<incoming> received;
    for (std::size_t j = 0; j < out.size(); ++j) {
        sent.push_back(out[j].out());
        received.push_back(in[j].in());
    }
    collective::all_to_all(group, std::span<const outgoing>(sent), std::span<const incoming>(received));
    out.clear();
}

template <class E, class T>
[[nodiscard]] tensor_view<E> to_carve(const tensor_view<T>& like, index_t rows, index_t heads) {
    return {nullptr, like.shape().dim == 0 ? extents{} : extents{like.shape().batch, rows, heads, like.shape().dim}};
}

} // namespace detail

/// Trades rows for heads: each member's rows of this rank's heads come, in one message for all tensors. Wider elements first.
template <communicator C, element... T>
void trade_rows_for_heads(C& group, const head_trade& t, std::pmr::memory_resource* memory,
                          const rows_to_heads<T>&... tensors) {
    std::vector<parcel> out(t.size()), in(t.size());
    std::tuple<std::vector<tensor_view<const T>>...> parts{std::vector<tensor_view<const T>>(t.size())...};
    const auto with = [&](std::vector<tensor_view<const T>>&... of) {
        for (std::size_t j = 0; j < t.size(); ++j) {
            ((of[j] = tensors.longer.shape().dim == 0 ? tensor_view<const T>{} : t.part(tensors.home, j, tensors.of)),
             ...);
            if (j == t.me) continue;
            out[j] = parcel::packed<T...>(memory, of[j]...);
            std::tuple<tensor_view<T>...> arrived{
                detail::to_carve<T>(tensors.longer, t.rows_of(j, tensors.of), tensors.longer.shape().heads)...};
            in[j] = std::apply([&](auto&... a) { return parcel::room_for(memory, a...); }, arrived);
            std::apply([&](const auto&... a) { ((of[j] = a), ...); }, arrived);
        }
        detail::trade_parcels(group, out, in);
        const auto join = [&](const auto& x, const auto& from) {
            if (x.longer.shape().dim != 0) assemble(t.whole(x.of), std::span(std::as_const(from)), x.longer);
        };
        (join(tensors, of), ...);
    };
    std::apply(with, parts);
}

/// Trades heads for rows: this rank's rows of each member's heads come home, in one message for all tensors. Wider
/// elements first.
template <communicator C, element... E, element... From, element... To, bool... Add>
void trade_heads_for_rows(C& group, const head_trade& t, std::pmr::memory_resource* memory,
                          const heads_to_rows<E, From, To, Add>&... tensors) {
    std::vector<parcel> out(t.size()), in(t.size());
    std::tuple<std::vector<tensor_view<E>>...> going{std::vector<tensor_view<E>>(t.size())...}, coming = going;
    const auto with = [&](std::vector<tensor_view<E>>&... to) {
        for (std::size_t j = 0; j < t.size(); ++j) {
            if (j == t.me) continue;
            ((to[j] = detail::to_carve<E>(tensors.longer, t.rows_of(j, tensors.of), tensors.longer.shape().heads)),
             ...);
            out[j] = parcel::room_for(memory, to[j]...);
            const auto home = [&](std::vector<tensor_view<E>>&... from) {
                ((from[j] = detail::to_carve<E>(tensors.longer, t.rows_of(t.me, tensors.of),
                                                t.heads_of(j, tensors.of).count)),
                 ...);
                in[j] = parcel::room_for(memory, from[j]...);
            };
            std::apply(home, coming);
        }
        const auto deal = [&](const auto& x, const auto& parts) {
            for (const segment& s : t.whole(x.of).segments)
                if (s.source != t.me && x.longer.shape().dim != 0)
                    copy(x.longer.rows(s.to, s.count, s.every), parts[s.source].rows(s.from, s.count));
        };
        (deal(tensors, to), ...);
        detail::trade_parcels(group, out, in);
    };
    std::apply(with, going);

    const auto bring = [&](const auto& x, const auto& parts) {
        if (x.longer.shape().dim == 0) return;
        const auto put = [](const auto& from, const auto& to) {
            if constexpr (std::remove_cvref_t<decltype(x)>::adds)
                accumulate(from, to);
            else
                copy(from, to);
        };
        for (std::size_t j = 0; j < t.size(); ++j) {
            const auto home = t.part(x.home, j, x.of);
            if (j != t.me) put(parts[j], home);
            for (const segment& s : t.whole(x.of).segments)
                if (j == t.me && s.source == j) put(x.longer.rows(s.to, s.count, s.every), home.rows(s.from, s.count));
        }
    };
    std::apply([&](const auto&... parts) { (bring(tensors, parts), ...); }, coming);
}

} // namespace seqpar
