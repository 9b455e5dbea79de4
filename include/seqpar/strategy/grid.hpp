#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/core/interleave.hpp>
#include <seqpar/plan/grid_cost.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/strategy.hpp>
#include <seqpar/strategy/tree.hpp>

#include <cstddef>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// P = pa * pc ranks as pa rows of pc neighbours. K, V are gathered along the columns, of pa ranks each; then each row is a
/// tree: its queries are computed against the keys of every column where those are, and results go where the rows live.
/// A rank computes pc shards of Q against pa shards of K, V: what it sends falls as 1 / sqrt(P), where that of a ring, an
/// all-gather or a tree does not fall. (The shape of 2-D matrix multiplication: van de Geijn and Watts 1997, SUMMA.)
///
/// A rank sends n h (pc - 1) + 2 n k (pa - 1) elements and n (h + H) (pc - 1) accumulators, in 2 (pc - 1) + pa - 1 messages
/// and rounds; backward n h (pc - 1) elements and n (h + 2H) (pc - 1) + 2 n k (pa - 1) accumulators in as many, and what
/// was not kept again: n h (pc - 1) + 2 n k (pa - 1) elements, in pa - 1 more. Keys that a row does not see do not travel.
struct grid {
    int pa = 0; ///< ranks that share their keys; 0: P / pc
    int pc = 0; ///< ranks that share their queries; 0: P / pa. Both 0: the heads decide, see plan::least_sent

    template <communicator C>
    class bound {
    public:
        bound(C& comm, const plan::rank_grid& asked) : comm_(comm), whole_(comm), asked_(asked), rank_(comm.rank()) {}

        /// K, V of the column, and what the tree keeps.
        template <element T>
        struct saved {
            tensor<T> k, v; // [batch, the column's keys, kv_heads, dim]
            typename tree::bound<C>::template saved<T> rows;
            bool kept = false;
        };

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x,
                     saved<T>* keep = nullptr) {
            // Where every rank has the same queries, a column would compute the same thing pa times.
            if (plan::same_queries(where))
                return whole_.template forward<T>(local, where, x, keep != nullptr ? &keep->rows : nullptr);
            split(where);
            saved<T> mine;
            saved<T>& s = keep != nullptr ? *keep : mine;
            bring_keys(local, where, x, s);
            const std::vector<placement> shared = shape_.shared(where, sight(local), shape_.row(rank_));
            axes_->row.template forward<T>(local, shared, operands<T>{x.q, s.k.view(), s.v.view(), x.out, x.lse},
                                           keep != nullptr ? &s.rows : nullptr);
        }

        /// The backward of the tree with the column's keys; then the gradients of those go home along the column.
        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>& kept) {
            using A = accumulator_t<T>;
            if (plan::same_queries(where)) return whole_.template backward<T>(local, where, x, g, kept.rows);
            split(where);
            saved<T> again;
            if (!kept.kept) bring_keys(local, where, x, again);
            const saved<T>& s = kept.kept ? kept : again;
            tensor<A> dk(s.k.shape(), format::bshd, local.how.memory), dv(s.v.shape(), format::bshd, local.how.memory);
            const std::vector<placement> shared = shape_.shared(where, sight(local), shape_.row(rank_));
            axes_->row.template backward<T>(local, shared, operands<T>{x.q, s.k.view(), s.v.view(), {}, {}},
                                            gradients<T>{g.rows, g.into_lse, false, g.dq, dk.view(), dv.view()},
                                            s.rows);
            again = {};
            return_gradients(local, where, g, std::move(dk), std::move(dv));
        }

    private:
        template <class Local>
        [[nodiscard]] static auto sight(const Local& local) {
            return [&local](const origin& queries, const origin& keys) { return local.sees(queries, keys); };
        }
        /// The placement of the a-th rank of the column.
        [[nodiscard]] const placement& member(std::span<const placement> where, std::size_t a) const {
            return where[static_cast<std::size_t>(member_rank(a))];
        }
        [[nodiscard]] int member_rank(std::size_t a) const {
            return shape_.rank(static_cast<int>(a), shape_.column(rank_));
        }
        /// By member: whether its row needs this rank's keys, and whether this rank's row needs its keys.
        template <class Local>
        [[nodiscard]] std::vector<bool> needing_mine(const Local& local, std::span<const placement> where) const {
            std::vector<bool> needs;
            for (int a = 0; a < shape_.pa; ++a) needs.push_back(shape_.needs(where, sight(local), a, rank_));
            return needs;
        }
        template <class Local>
        [[nodiscard]] std::vector<bool> needed_here(const Local& local, std::span<const placement> where) const {
            std::vector<bool> needs;
            for (std::size_t a = 0; a < static_cast<std::size_t>(shape_.pa); ++a)
                needs.push_back(shape_.needs(where, sight(local), shape_.row(rank_), member_rank(a)));
            return needs;
        }

        /// A parcel with room for K and V, or their gradients, of a rank.
        template <element E, class Local>
        [[nodiscard]] static kv_parcel<E> room_for(const Local& local, const placement& of, index_t batch, index_t dim,
                                                   index_t dim_v) {
            kv_parcel<E> room(kv_parcel<E>::bytes(of.keys, batch, dim, dim_v), local.how.memory);
            room.shape(of.keys, batch, dim, dim_v);
            return room;
        }

        template <element E>
        void trade(const std::vector<outgoing>& out, std::vector<kv_parcel<E>>& arriving) {
            std::vector<incoming> in;
            for (kv_parcel<E>& p : arriving) in.push_back(p.in());
            collective::all_to_all(axes_->column, std::span<const outgoing>(out), std::span<const incoming>(in));
        }

        /// [batch, n, kv_heads, dim] -> [batch, the column's keys that this row needs, kv_heads, dim]
        template <element T, class Local>
        void bring_keys(const Local& local, std::span<const placement> where, const operands<T>& x, saved<T>& into) {
            const index_t batch = x.k.shape().batch, dim = x.k.shape().dim, dim_v = x.v.shape().dim;
            const std::size_t me = static_cast<std::size_t>(shape_.row(rank_)),
                              size = static_cast<std::size_t>(shape_.pa);
            const std::vector<bool> theirs = needing_mine(local, where), mine = needed_here(local, where);
            std::vector<kv_parcel<T>> arrived(size);
            std::vector<tensor_view<const T>> k(size), v(size);
            k[me] = x.k, v[me] = x.v;
            {
                kv_parcel<T> own = room_for<T>(local, member(where, me), batch, dim, dim_v);
                own.fill(x.k, x.v);
                std::vector<outgoing> out(size);
                for (std::size_t a = 0; a < size; ++a) {
                    if (a == me) continue;
                    if (theirs[a]) out[a] = own.out();
                    if (!mine[a]) continue;
                    arrived[a] = room_for<T>(local, member(where, a), batch, dim, dim_v);
                    k[a] = arrived[a].k(), v[a] = arrived[a].v();
                }
                trade(out, arrived);
            }
            const interleaved joined = shape_.keys(where, sight(local), rank_);
            const index_t rows = joined.rows.size(), heads = x.k.shape().heads;
            into.k = tensor<T>::unset({batch, rows, heads, dim}, local.how.memory);
            into.v = tensor<T>::unset({batch, rows, heads, dim_v}, local.how.memory);
            assemble(joined, std::span<const tensor_view<const T>>(k), into.k.view());
            assemble(joined, std::span<const tensor_view<const T>>(v), into.v.view());
            into.kept = true;
        }

        /// [batch, the column's keys, kv_heads, dim] -> [batch, n, kv_heads, dim], added up in the order of the column.
        template <element T, class Local, element A = accumulator_t<T>>
        void return_gradients(const Local& local, std::span<const placement> where, const gradients<T>& g, tensor<A> dk,
                              tensor<A> dv) {
            const index_t batch = g.dk.shape().batch, dim = g.dk.shape().dim, dim_v = g.dv.shape().dim;
            const std::size_t me = static_cast<std::size_t>(shape_.row(rank_)),
                              size = static_cast<std::size_t>(shape_.pa);
            const std::vector<bool> theirs = needing_mine(local, where), mine = needed_here(local, where);
            std::vector<kv_parcel<A>> caused(size), arrived(size);
            std::vector<tensor_view<A>> k(size), v(size);
            for (std::size_t a = 0; a < size; ++a) {
                if (!mine[a]) continue;
                caused[a] = room_for<A>(local, member(where, a), batch, dim, dim_v);
                k[a] = caused[a].k(), v[a] = caused[a].v();
            }
            const interleaved joined = shape_.keys(where, sight(local), rank_);
            disassemble<A>(joined, std::as_const(dk).view(), k);
            disassemble<A>(joined, std::as_const(dv).view(), v);
            dk = {}, dv = {};
            std::vector<outgoing> out(size);
            for (std::size_t a = 0; a < size; ++a) {
                if (a == me) continue;
                out[a] = caused[a].out();
                if (theirs[a]) arrived[a] = room_for<A>(local, member(where, me), batch, dim, dim_v);
            }
            trade(out, arrived);
            for (std::size_t a = 0; a < size; ++a) {
                if (!theirs[a]) continue;
                const kv_parcel<A>& part = a == me ? caused[a] : arrived[a];
                accumulate(part.k(), g.dk);
                accumulate(part.v(), g.dv);
            }
        }

        /// The groups of a rank: split once the heads are known, since they say which shape sends least.
        struct axes {
            axes(C& comm, const plan::rank_grid& shape)
                : column(comm.split(shape.column(comm.rank()), comm.rank())),
                  row(comm.split(shape.row(comm.rank()), comm.rank())) {}
            C column;
            tree::bound<C> row;
        };

        /// Collective where the shape is another one than before.
        void split(std::span<const placement> where) {
            const plan::rank_grid wanted = plan::completed(asked_, comm_.size(), where.front());
            if (axes_ && wanted == shape_) return;
            shape_ = wanted;
            axes_.emplace(comm_, shape_);
        }

        C comm_;
        tree::bound<C> whole_;
        plan::rank_grid asked_, shape_; // sides may be 0; what it is
        int rank_;
        std::optional<axes> axes_;
    };

    template <communicator C>
    [[nodiscard]] bound<C> on(C& comm) const {
        check(comm.size());
        return {comm, plan::rank_grid{pa, pc}};
    }

    void check(int size) const {
        if (pa >= 0 && pc >= 0 && (pa == 0 || size % pa == 0) && (pc == 0 || size % pc == 0) &&
            (pa == 0 || pc == 0 || pa * pc == size))
            return;
        std::string allowed;
        for (int d = 1; d <= size; ++d)
            if (size % d == 0) allowed += std::to_string(size / d) + "x" + std::to_string(d) + ", ";
        throw refusal(detail::concat(name(), " does not fit ", size, " ranks: allowed are ", allowed,
                                     "or 0 for a side that follows from the other"));
    }

    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const {
        if (plan::same_queries(p.where)) return plan::tree_cost(p, rank);
        const plan::rank_grid s = plan::completed({pa, pc}, p.size(), p.where.front());
        const std::vector<placement> shared = s.shared(p.where, p.sees, s.row(rank));
        return plan::grid_cost(p, s, rank, plan::tree_cost(of_row(p, shared), s.column(rank)));
    }
    [[nodiscard]] plan::cost predict_backward(const plan::problem& p, int rank) const {
        if (plan::same_queries(p.where)) return plan::tree_backward_cost(p, rank);
        const plan::rank_grid s = plan::completed({pa, pc}, p.size(), p.where.front());
        const std::vector<placement> shared = s.shared(p.where, p.sees, s.row(rank));
        return plan::grid_backward_cost(p, s, rank, plan::tree_backward_cost(of_row(p, shared), s.column(rank)));
    }

    /// "grid:2x4"; "grid" where both sides follow from the number of ranks.
    [[nodiscard]] std::string name() const {
        return pa == 0 && pc == 0 ? "grid" : "grid:" + std::to_string(pa) + "x" + std::to_string(pc);
    }

private:
    [[nodiscard]] static plan::problem of_row(const plan::problem& p, std::span<const placement> shared) {
        plan::problem row = p;
        row.where = shared;
        return row;
    }
};
static_assert(strategy<grid>);

} // namespace seqpar
