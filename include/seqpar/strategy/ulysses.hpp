#pragma once

#include <seqpar/kernel/delta.hpp>
#include <seqpar/plan/ulysses_cost.hpp>
#include <seqpar/strategy/head_share.hpp>
#include <seqpar/strategy/head_trade.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <cstddef>
#include <memory_resource>
#include <span>
#include <string>
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
            const head_trade t = plan_trade(where, local.how.group);
            saved<T> mine;
            saved<T>& s = keep != nullptr ? *keep : mine;
            make_operands(t, x, s, memory);
            trade_rows_for_heads(group_, t, memory, rows_to_heads<T>{x.q, s.q.view(), row_side::queries},
                                 rows_to_heads<T>{x.k, s.k.view(), row_side::keys},
                                 rows_to_heads<T>{x.v, s.v.view(), row_side::keys});

            const extents longer{x.q.shape().batch, t.rows.rows.size(), t.mine().queries.count, x.v.shape().dim};
            s.out = tensor<T>::unset(longer, memory);
            // What is kept needs its lse, wanted or not.
            const index_t lse_dim = keep != nullptr ? 1 : x.lse.shape().dim;
            s.lse = tensor<A>::unset({longer.batch, longer.seq, longer.heads, lse_dim}, memory);
            const std::vector<placement> inner_where = regroup(where, t.mine(), group_.size());
            inner_.template forward<T>(local, inner_where,
                                       operands<T>{std::as_const(s.q).view(), std::as_const(s.k).view(),
                                                   std::as_const(s.v).view(), s.out.view(), s.lse.view()},
                                       keep != nullptr ? &s.inner : nullptr);
            if (keep == nullptr)
                s.q = {}, s.k = {}, s.v = {};
            else
                s.kept = true;
            trade_heads_for_rows(
                group_, t, memory,
                heads_to_rows<A, A, A>{x.wants_lse() ? std::as_const(s.lse).view() : tensor_view<const A>{}, x.lse},
                heads_to_rows<T, T, T>{std::as_const(s.out).view(), x.out});
        }

        /// Rows for heads for dout, and for what was not kept; the inner backward; heads for rows for dq, dk, dv.
        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>& kept) requires differentiable<inner_bound, T, Local> {
            using A = accumulator_t<T>;
            const auto memory = local.how.memory;
            const head_trade t = plan_trade(where, local.how.group);
            const extents row{x.q.shape().batch, t.rows.rows.size(), t.mine().queries.count, 1};
            const extents longer{row.batch, row.seq, row.heads, x.v.shape().dim};
            saved<T> again;
            if (!kept.kept) make_operands(t, x, again, memory);
            const saved<T>& s = kept.kept ? kept : again;

            tensor<T> dout = tensor<T>::unset(longer, memory);
            tensor<A> delta = tensor<A>::unset(row, memory), lse_again;
            if (!kept.kept) lse_again = tensor<A>::unset(row, memory);
            const bool send_delta = !kept.kept || g.into_lse; // else out and dout give it
            const rows_to_heads<A> sent_delta{g.rows.delta, delta.view()};
            // The views of `again` are empty, and stay at home, where q, k, v were kept.
            trade_rows_for_heads(group_, t, memory, rows_to_heads<A>{g.rows.lse, lse_again.view()},
                                 send_delta ? sent_delta : rows_to_heads<A>{},
                                 rows_to_heads<T>{g.rows.dout, dout.view()}, rows_to_heads<T>{x.q, again.q.view()},
                                 rows_to_heads<T>{x.k, again.k.view(), row_side::keys},
                                 rows_to_heads<T>{x.v, again.v.view(), row_side::keys});
            const tensor_view<const A> lse = kept.kept ? kept.lse.view() : std::as_const(lse_again).view();
            if (!send_delta) row_delta<T>(kept.out.view(), std::as_const(dout).view(), {}, delta.view());

            tensor<A> dq(s.q.shape(), format::bshd, memory), dk(s.k.shape(), format::bshd, memory),
                dv(s.v.shape(), format::bshd, memory);
            const bool complete = g.complete && !t.shares_keys();
            const std::vector<placement> inner_where = regroup(where, t.mine(), group_.size());
            inner_.template backward<T>(local, inner_where, operands<T>{s.q.view(), s.k.view(), s.v.view(), {}, {}},
                                        gradients<T>{{std::as_const(dout).view(), lse, std::as_const(delta).view()},
                                                     g.into_lse,
                                                     complete,
                                                     dq.view(),
                                                     dk.view(),
                                                     dv.view()},
                                        s.inner);
            dout = {}, delta = {}, lse_again = {}, again = {};
            if (complete)
                return_gradients<T, T>(t, g, dq, dk, dv, memory);
            else
                return_gradients<A, T>(t, g, dq, dk, dv, memory);
        }

    private:
        [[nodiscard]] head_trade plan_trade(std::span<const placement> where, index_t group) const {
            return {where.subspan(first_, static_cast<std::size_t>(group_.size())), group, group_.rank()};
        }

        /// Room for Q, K and V of this share of the heads, over all rows of the group.
        template <element T>
        static void make_operands(const head_trade& t, const operands<T>& x, saved<T>& s,
                                  std::pmr::memory_resource* memory) {
            const index_t batch = x.q.shape().batch, rows = t.rows.rows.size(), keys = t.keys.rows.size();
            s.q = tensor<T>::unset({batch, rows, t.mine().queries.count, x.q.shape().dim}, memory);
            s.k = tensor<T>::unset({batch, keys, t.mine().keys.count, x.k.shape().dim}, memory);
            s.v = tensor<T>::unset({batch, keys, t.mine().keys.count, x.v.shape().dim}, memory);
        }

        /// dq, dk, dv of this share of the heads -> those of this rank's rows, added up. Where members share kv heads the
        /// sums are unfinished: then K, what dk and dv travel in, is the accumulation type.
        template <element K, element T, element A = accumulator_t<T>>
        void return_gradients(const head_trade& t, const gradients<T>& g, const tensor<A>& dq, const tensor<A>& dk,
                              const tensor<A>& dv, std::pmr::memory_resource* memory) {
            trade_heads_for_rows(group_, t, memory, heads_to_rows<K, A, A, true>{dk.view(), g.dk, row_side::keys},
                                 heads_to_rows<K, A, A, true>{dv.view(), g.dv, row_side::keys},
                                 heads_to_rows<T, A, A, true>{dq.view(), g.dq, row_side::queries});
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
        return within_group(p, rank,
                            [&](const plan::problem& inside, int inner_rank, std::span<const plan::heads> shares) {
                                return plan::ulysses_cost(p, rank, shares, inner.predict(inside, inner_rank));
                            });
    }
    [[nodiscard]] plan::cost predict_backward(const plan::problem& p, int rank) const {
        return within_group(
            p, rank, [&](const plan::problem& inside, int inner_rank, std::span<const plan::heads> shares) {
                return plan::ulysses_backward_cost(p, rank, shares, inner.predict_backward(inside, inner_rank));
            });
    }

    [[nodiscard]] std::string name() const {
        const std::string group_name = degree == 0 ? "ulysses" : "ulysses:" + std::to_string(degree);
        return inner.name() == "serial" ? group_name : group_name + "/" + inner.name();
    }

private:
    /// price(problem of the inner strategy, this rank in it, heads of the members of the group)
    template <class Price>
    [[nodiscard]] plan::cost within_group(const plan::problem& p, int rank, const Price& price) const {
        const int members = group(p.size()), me = rank % members;
        const std::vector<head_share> shares = share_heads(p.of(rank).queries.heads, p.group, members);
        std::vector<plan::heads> heads;
        for (const head_share& s : shares) heads.push_back({s.queries.count, s.keys.count});
        const std::vector<placement> inner_where = regroup(p.where, shares[static_cast<std::size_t>(me)], members);
        plan::problem inside = p;
        inside.where = inner_where;
        inside.stride = p.stride * members;
        inside.complete = p.complete && !plan::share_keys(p, heads);
        return price(inside, rank / members, std::span<const plan::heads>(heads));
    }

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
