#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/core/interleave.hpp>
#include <seqpar/strategy/head_share.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <cstddef>
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

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x) {
            using A = accumulator_t<T>;
            const auto memory = local.how.memory;
            const trade t = plan_trade(where, local.how.group);
            const index_t batch = x.q.shape().batch, dim = x.q.shape().dim, dim_v = x.v.shape().dim;
            const extents longer{batch, t.rows.rows.size(), t.mine().queries.count, dim_v};
            const extents keys{batch, t.keys.rows.size(), t.mine().keys.count, dim};

            tensor<T> q({batch, longer.seq, longer.heads, dim}, format::bshd, memory), k(keys, format::bshd, memory),
                v({batch, keys.seq, keys.heads, dim_v}, format::bshd, memory);
            rows_for_heads<T>(t, x, q.view(), k.view(), v.view(), memory);

            tensor<T> out(longer, format::bshd, memory);
            tensor<A> lse({batch, longer.seq, longer.heads, x.lse.shape().dim}, format::bshd, memory);
            const std::vector<placement> inner_where = regroup(where, t.mine(), group_.size());
            inner_.template forward<T>(local, inner_where,
                                       operands<T>{q.view(), k.view(), v.view(), out.view(), lse.view()});
            q = {}, k = {}, v = {};

            heads_for_rows<T>(t, x, out.view(), lse.view(), memory);
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

        /// [batch, n, heads, dim] of every member -> [batch, rows of the group, this share of the heads, dim]
        template <element T>
        void rows_for_heads(const trade& t, const operands<T>& x, const tensor_view<T>& q, const tensor_view<T>& k,
                            const tensor_view<T>& v, std::pmr::memory_resource* memory) {
            const std::size_t size = t.members.size();
            std::vector<parcel> out(size), in(size);
            std::vector<tensor_view<const T>> qs(size), ks(size), vs(size);
            for (std::size_t j = 0; j < size; ++j) {
                const placement& have = t.members[t.me];
                qs[j] = trade::part(x.q, have.queries.heads, t.shares[j].queries);
                ks[j] = trade::part(x.k, have.keys.heads, t.shares[j].keys);
                vs[j] = trade::part(x.v, have.keys.heads, t.shares[j].keys);
                if (j == t.me) continue;
                out[j] = parcel::packed<T, T, T>(memory, qs[j], ks[j], vs[j]);
                tensor_view<T> from_q(nullptr, {q.shape().batch, t.rows_of(j), q.shape().heads, q.shape().dim});
                tensor_view<T> from_k(nullptr, {k.shape().batch, t.keys_of(j), k.shape().heads, k.shape().dim});
                tensor_view<T> from_v(nullptr, {v.shape().batch, t.keys_of(j), v.shape().heads, v.shape().dim});
                in[j] = parcel::room_for(memory, from_q, from_k, from_v);
                qs[j] = from_q, ks[j] = from_k, vs[j] = from_v;
            }
            all_to_all(out, in);
            assemble<T>(t.rows, qs, q);
            assemble<T>(t.keys, ks, k);
            assemble<T>(t.keys, vs, v);
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
        decltype(std::declval<const Inner&>().on(std::declval<C&>())) inner_;
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
