#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/core/interleave.hpp>
#include <seqpar/kernel/delta.hpp>
#include <seqpar/plan/ulysses_cost.hpp>
#include <seqpar/strategy/head_share.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace seqpar {

/// Head-parallel attention: groups of `degree` neighbouring ranks trade rows for heads in an all-to-all, each computes its
/// share of the heads over all rows of the group by `Inner`, and a second all-to-all brings the outputs home.
/// (Jacobs et al. 2023, DeepSpeed-Ulysses, arXiv:2309.14509; over a ring: Fang and Zhao 2024, USP, arXiv:2405.07719.)
///
/// Any number of heads: shares differ by one head at most, and a rank may have none. K, V go to a rank only for the kv
/// heads that its query heads read, and never twice. With u = degree, h = heads * head_dim and
/// k' = u * head_dim * (kv heads that a rank reads), a rank sends (2h + 2k') n (u - 1) / u elements, and heads * n (u - 1) / u
/// of lse in the accumulation type if it is wanted, in 2 (u - 1) messages and rounds; and what Inner sends.
template <strategy Inner = serial>
struct ulysses {
    int degree = 0; ///< ranks in a group; 0: all
    Inner inner = {};

    template <communicator C>
    class bound {
    public:
        bound(C& comm, int degree, const Inner& inner)
            : group_(comm.split(comm.rank() / degree, comm.rank())),
              across_(comm.split(comm.rank() % degree, comm.rank())), inner_(inner.on(across_)),
              first_(static_cast<std::size_t>(comm.rank() / degree * degree)) {}

        using inner_bound = decltype(std::declval<const Inner&>().on(std::declval<C&>()));

        /// This rank's share of the heads, over all rows of the group; and what the inner strategy keeps.
        template <element T>
        struct saved {
            tensor<T> q, k, v, out;
            tensor<accumulator_t<T>> lse;
            typename inner_bound::template saved<T> inner;
            bool kept = false;
        };

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x,
                     saved<T>* keep = nullptr) {
            using A = accumulator_t<T>;
            const auto memory = local.how.memory;
            const trade t = plan_trade(where, local.how.group);
            saved<T> mine;
            saved<T>& s = keep != nullptr ? *keep : mine;
            bring_operands(t, x, s, memory);

            const extents longer{x.q.shape().batch, t.rows.rows.size(), t.mine().queries.count, x.v.shape().dim};
            s.out = tensor<T>(longer, format::bshd, memory);
            // What is kept needs its lse, wanted or not.
            const index_t lse_dim = keep != nullptr ? 1 : x.lse.shape().dim;
            s.lse = tensor<A>({longer.batch, longer.seq, longer.heads, lse_dim}, format::bshd, memory);
            const std::vector<placement> inner_where = regroup(where, t.mine(), group_.size());
            inner_.template forward<T>(local, inner_where, operands_of(s), keep != nullptr ? &s.inner : nullptr);
            if (keep == nullptr)
                s.q = {}, s.k = {}, s.v = {};
            else
                s.kept = true;

            heads_for_rows(t, x, s.out.view(), x.wants_lse() ? s.lse.view() : tensor_view<A>{}, memory);
        }

        /// Rows for heads for dout, and for what was not kept; the inner backward; heads for rows for dq, dk, dv.
        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>& kept) requires differentiable<inner_bound, T, Local> {
            using A = accumulator_t<T>;
            const auto memory = local.how.memory;
            const trade t = plan_trade(where, local.how.group);
            const index_t batch = x.q.shape().batch, rows = t.rows.rows.size(), heads = t.mine().queries.count;
            saved<T> again;
            if (!kept.kept) bring_operands(t, x, again, memory);
            const saved<T>& s = kept.kept ? kept : again;

            tensor<T> dout({batch, rows, heads, x.v.shape().dim}, format::bshd, memory);
            tensor<A> delta({batch, rows, heads, 1}, format::bshd, memory), lse_again;
            if (!kept.kept) lse_again = tensor<A>({batch, rows, heads, 1}, format::bshd, memory);
            const bool send_delta = !kept.kept || g.into_lse; // else out and dout give it
            rows_for_heads(t, memory, row_piece<A>{g.rows.lse, lse_again.view(), side::queries},
                           row_piece<A>{send_delta ? g.rows.delta : tensor_view<const A>{},
                                        send_delta ? delta.view() : tensor_view<A>{}, side::queries},
                           row_piece<T>{g.rows.dout, dout.view(), side::queries});
            const tensor_view<const A> lse = kept.kept ? kept.lse.view() : std::as_const(lse_again).view();
            if (!send_delta) row_delta<T>(kept.out.view(), std::as_const(dout).view(), {}, delta.view());

            tensor<A> dq({batch, rows, heads, x.q.shape().dim}, format::bshd, memory);
            tensor<A> dk(s.k.shape(), format::bshd, memory), dv(s.v.shape(), format::bshd, memory);
            const std::vector<placement> inner_where = regroup(where, t.mine(), group_.size());
            inner_.template backward<T>(local, inner_where, operands<T>{s.q.view(), s.k.view(), s.v.view(), {}, {}},
                                        gradients<T>{{std::as_const(dout).view(), lse, std::as_const(delta).view()},
                                                     g.into_lse,
                                                     g.complete && !shares_keys(t),
                                                     dq.view(),
                                                     dk.view(),
                                                     dv.view()},
                                        s.inner);
            return_gradients<T>(t, g, dq.view(), dk.view(), dv.view(), memory);
        }

    private:
        /// Who in the group has which heads and which rows.
        struct trade {
            std::span<const placement> members;
            std::vector<head_share> shares;
            interleaved rows, keys; // of the whole group
            std::size_t me;

            [[nodiscard]] const head_share& mine() const { return shares[me]; }
            [[nodiscard]] index_t rows_of(std::size_t j) const { return members[j].queries.rows.size(); }
            [[nodiscard]] index_t keys_of(std::size_t j) const { return members[j].keys.rows.size(); }

            /// The part of a block with these heads that belongs to a share.
            template <class T>
            [[nodiscard]] static tensor_view<T> part(const tensor_view<T>& whole, const head_range& have,
                                                     const head_range& want) {
                return whole.heads(want.first - have.first, want.count);
            }
        };

        [[nodiscard]] trade plan_trade(std::span<const placement> where, index_t group) const {
            const auto members = where.subspan(first_, static_cast<std::size_t>(group_.size()));
            return {members, share_heads(members.front().queries.heads, group, group_.size()),
                    join_rows(members, &placement::queries), join_rows(members, &placement::keys),
                    static_cast<std::size_t>(group_.rank())};
        }

        enum class side { queries, keys };

        /// A tensor that travels: this rank's rows of it, and where the group's rows of this rank's heads go. Default views:
        /// it stays at home.
        template <element T>
        struct row_piece {
            tensor_view<const T> mine; ///< [batch, n, heads, dim]
            tensor_view<T> longer;     ///< [batch, rows of the group, this share of the heads, dim]
            side of;

            [[nodiscard]] bool stays() const noexcept { return longer.shape().dim == 0; }
            /// What goes to the member with that share.
            [[nodiscard]] tensor_view<const T> part(const trade& t, std::size_t j) const {
                if (stays()) return {};
                const placement& have = t.members[t.me];
                return of == side::queries ? trade::part(mine, have.queries.heads, t.shares[j].queries)
                                           : trade::part(mine, have.keys.heads, t.shares[j].keys);
            }
            /// The shape of what comes from member j.
            [[nodiscard]] extents shape_from(const trade& t, std::size_t j) const {
                extents e = longer.shape();
                e.seq = of == side::queries ? t.rows_of(j) : t.keys_of(j);
                return stays() ? extents{} : e;
            }
        };

        /// [batch, n, heads, dim] of every member -> [batch, rows of the group, this share of the heads, dim], several
        /// tensors in one message; wider elements first.
        template <element... T>
        void rows_for_heads(const trade& t, std::pmr::memory_resource* memory, const row_piece<T>&... pieces) {
            const std::size_t size = t.members.size();
            std::vector<parcel> out(size), in(size);
            std::tuple<std::vector<tensor_view<const T>>...> parts{std::vector<tensor_view<const T>>(size)...};
            const auto with = [&](std::vector<tensor_view<const T>>&... of) {
                for (std::size_t j = 0; j < size; ++j) {
                    ((of[j] = pieces.part(t, j)), ...);
                    if (j == t.me) continue;
                    out[j] = parcel::packed<T...>(memory, of[j]...);
                    std::tuple<tensor_view<T>...> arrived{tensor_view<T>(nullptr, pieces.shape_from(t, j))...};
                    in[j] = std::apply([&](auto&... a) { return parcel::room_for(memory, a...); }, arrived);
                    std::apply([&](const auto&... a) { ((of[j] = a), ...); }, arrived);
                }
                all_to_all(out, in);
                const auto join = [&](const auto& piece, const auto& from) {
                    if (!piece.stays())
                        assemble(piece.of == side::queries ? t.rows : t.keys, std::span(std::as_const(from)),
                                 piece.longer);
                };
                (join(pieces, of), ...);
            };
            std::apply(with, parts);
        }

        /// Q, K and V of this share of the heads, over all rows of the group.
        template <element T>
        void bring_operands(const trade& t, const operands<T>& x, saved<T>& s, std::pmr::memory_resource* memory) {
            const index_t batch = x.q.shape().batch, dim = x.q.shape().dim, dim_v = x.v.shape().dim;
            const index_t rows = t.rows.rows.size(), keys = t.keys.rows.size();
            s.q = tensor<T>({batch, rows, t.mine().queries.count, dim}, format::bshd, memory);
            s.k = tensor<T>({batch, keys, t.mine().keys.count, dim}, format::bshd, memory);
            s.v = tensor<T>({batch, keys, t.mine().keys.count, dim_v}, format::bshd, memory);
            rows_for_heads(t, memory, row_piece<T>{x.q, s.q.view(), side::queries},
                           row_piece<T>{x.k, s.k.view(), side::keys}, row_piece<T>{x.v, s.v.view(), side::keys});
        }

        template <element T>
        [[nodiscard]] static operands<T> operands_of(saved<T>& s) {
            return {std::as_const(s.q).view(), std::as_const(s.k).view(), std::as_const(s.v).view(), s.out.view(),
                    s.lse.view()};
        }

        /// [batch, rows of the group, this share of the heads, dim] -> [batch, n, heads, dim] of every member
        template <element T, element A = accumulator_t<T>>
        void heads_for_rows(const trade& t, const operands<T>& x, const tensor_view<T>& result,
                            const tensor_view<A>& lse, std::pmr::memory_resource* memory) {
            const std::size_t size = t.members.size();
            const head_range have = t.members[t.me].queries.heads;
            const index_t batch = result.shape().batch, heads = result.shape().heads;
            std::vector<parcel> out(size), in(size);
            std::vector<tensor_view<T>> outs(size), home(size);
            std::vector<tensor_view<A>> lses(size), home_lse(size);
            for (std::size_t j = 0; j < size; ++j) {
                home[j] = trade::part(x.out, have, t.shares[j].queries);
                home_lse[j] = trade::part(x.lse, have, t.shares[j].queries);
                outs[j] = {nullptr, {batch, t.rows_of(j), heads, result.shape().dim}};
                lses[j] = {nullptr, {batch, t.rows_of(j), heads, lse.shape().dim}};
                if (j == t.me) {
                    outs[j] = home[j], lses[j] = home_lse[j];
                    continue;
                }
                out[j] = parcel::room_for(memory, lses[j], outs[j]);
                home_lse[j] = {nullptr, home_lse[j].shape()};
                home[j] = {nullptr, home[j].shape()};
                in[j] = parcel::room_for(memory, home_lse[j], home[j]);
            }
            disassemble<T>(t.rows, result, outs);
            if (x.wants_lse()) disassemble<A>(t.rows, lse, lses);
            all_to_all(out, in);
            for (std::size_t j = 0; j < size; ++j) {
                if (j == t.me) continue;
                copy(home[j], trade::part(x.out, have, t.shares[j].queries));
                if (x.wants_lse()) copy(home_lse[j], trade::part(x.lse, have, t.shares[j].queries));
            }
        }

        /// Whether some kv head is read by several members.
        [[nodiscard]] static bool shares_keys(const trade& t) {
            index_t readers = 0;
            for (const head_share& share : t.shares) readers += share.keys.count;
            return readers > t.members[t.me].keys.heads.count;
        }

        /// dq, dk, dv of this share of the heads -> those of this rank's rows, added up. Where members share kv
        /// heads the sums are unfinished: dk and dv travel in the accumulation type, else in the storage type, as dq does.
        template <element T, element A = accumulator_t<T>>
        void return_gradients(const trade& t, const gradients<T>& g, const tensor_view<A>& dq, const tensor_view<A>& dk,
                              const tensor_view<A>& dv, std::pmr::memory_resource* memory) {
            if (!g.complete || shares_keys(t))
                return_gradients_as<A, T>(t, g, dq, dk, dv, memory);
            else
                return_gradients_as<T, T>(t, g, dq, dk, dv, memory);
        }

        template <element K, element T, element A>
        void return_gradients_as(const trade& t, const gradients<T>& g, const tensor_view<A>& dq,
                                 const tensor_view<A>& dk, const tensor_view<A>& dv,
                                 std::pmr::memory_resource* memory) {
            const std::size_t size = t.members.size();
            std::vector<parcel> out(size), in(size);
            std::vector<tensor_view<T>> qs(size), qs_in(size);
            std::vector<tensor_view<K>> ks(size), vs(size), ks_in(size), vs_in(size);
            const placement& have = t.members[t.me];
            const auto sized = [](const auto& like, index_t rows, index_t heads) {
                return extents{like.shape().batch, rows, heads, like.shape().dim};
            };
            for (std::size_t j = 0; j < size; ++j) {
                qs[j] = {nullptr, sized(dq, t.rows_of(j), dq.shape().heads)};
                ks[j] = {nullptr, sized(dk, t.keys_of(j), dk.shape().heads)};
                vs[j] = {nullptr, sized(dv, t.keys_of(j), dv.shape().heads)};
                out[j] = parcel::room_for(memory, ks[j], vs[j], qs[j]);
                if (j == t.me) continue;
                qs_in[j] = {nullptr, sized(dq, t.rows_of(t.me), t.shares[j].queries.count)};
                ks_in[j] = {nullptr, sized(dk, t.keys_of(t.me), t.shares[j].keys.count)};
                vs_in[j] = {nullptr, sized(dv, t.keys_of(t.me), t.shares[j].keys.count)};
                in[j] = parcel::room_for(memory, ks_in[j], vs_in[j], qs_in[j]);
            }
            const auto deal = [](const interleaved& plan, const auto& whole, const auto& parts) {
                for (const segment& s : plan.segments)
                    copy(whole.rows(s.to, s.count, s.every), parts[s.source].rows(s.from, s.count));
            };
            deal(t.rows, dq, qs);
            deal(t.keys, dk, ks);
            deal(t.keys, dv, vs);
            parcel own = std::move(out[t.me]); // stays alive: its views are read below
            out[t.me] = {};
            qs_in[t.me] = qs[t.me], ks_in[t.me] = ks[t.me], vs_in[t.me] = vs[t.me];
            all_to_all(out, in);
            for (std::size_t j = 0; j < size; ++j) { // in the order of the members, whichever rank this is
                accumulate(qs_in[j], trade::part(g.dq, have.queries.heads, t.shares[j].queries));
                accumulate(ks_in[j], trade::part(g.dk, have.keys.heads, t.shares[j].keys));
                accumulate(vs_in[j], trade::part(g.dv, have.keys.heads, t.shares[j].keys));
            }
        }

        /// One parcel to each other member. Those that were sent are freed.
        void all_to_all(std::vector<parcel>& out, std::vector<parcel>& in) {
            std::vector<outgoing> sent;
            std::vector<incoming> received;
            for (std::size_t j = 0; j < out.size(); ++j) {
                sent.push_back(out[j].out());
                received.push_back(in[j].in());
            }
            collective::all_to_all(group_, std::span<const outgoing>(sent), std::span<const incoming>(received));
            out.clear();
        }

        C group_, across_;
        inner_bound inner_;
        std::size_t first_; // rank of the group's first member
    };

    template <communicator C>
        requires strategy_on<Inner, C>
    [[nodiscard]] bound<C> on(C& comm) const {
        check(comm.size());
        return {comm, group(comm.size()), inner};
    }

    void check(int size) const {
        if (degree < 0 || degree > size || size % group(size) != 0)
            throw refusal(detail::concat("ulysses of degree ", degree, " does not fit ", size, " ranks: allowed are ",
                                         divisors(size), ", or 0 for all"));
        try {
            inner.check(size / group(size));
        } catch (const refusal& why) {
            throw refusal(detail::concat(name(), " on ", size, " ranks leaves ", size / group(size), " to ",
                                         inner.name(), ": ", why.what()));
        }
    }

    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const {
        const int members = group(p.size()), me = rank % members;
        const std::vector<head_share> shares = share_heads(p.of(rank).queries.heads, p.group, members);
        const std::vector<placement> inner_where = regroup(p.where, shares[static_cast<std::size_t>(me)], members);
        plan::problem inner_problem = p;
        inner_problem.where = inner_where;
        const plan::cost inside = inner.predict(inner_problem, rank / members);
        std::vector<plan::heads> heads;
        for (const head_share& s : shares) heads.push_back({s.queries.count, s.keys.count});
        return plan::ulysses_cost(p, rank, heads, inside);
    }

    [[nodiscard]] std::string name() const {
        const std::string group_name = degree == 0 ? "ulysses" : "ulysses:" + std::to_string(degree);
        return inner.name() == "serial" ? group_name : group_name + "/" + inner.name();
    }

private:
    [[nodiscard]] int group(int size) const noexcept { return degree == 0 ? size : degree; }

    [[nodiscard]] static std::string divisors(int size) {
        std::string list;
        for (int d = 1; d <= size; ++d)
            if (size % d == 0) list += (list.empty() ? "" : ", ") + std::to_string(d);
        return list;
    }
};
static_assert(strategy<ulysses<>> && strategy<ulysses<ulysses<>>>);

} // namespace seqpar
