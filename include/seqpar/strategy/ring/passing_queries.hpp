#pragma once

#include <seqpar/core/partial.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/ring/travel.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <optional>
#include <span>
#include <utility>

namespace seqpar::detail {

/// What both passes have in common: rows of Q travel, K and V stay.
template <element T, class Local>
class staying_keys {
public:
    staying_keys(const Local& local, std::span<const placement> where, const operands<T>& x, int rank)
        : local_(local), where_(where), x_(x), me_(where[static_cast<std::size_t>(rank)]), keys_{x.k, x.v, me_.keys} {}

protected:
    [[nodiscard]] const origin& queries(int owner) const { return where_[static_cast<std::size_t>(owner)].queries; }
    /// [batch, rows of the owner, its heads, dim]
    [[nodiscard]] extents rows_of(int owner, index_t dim) const {
        return {x_.q.shape().batch, queries(owner).rows.size(), queries(owner).heads.count, dim};
    }
    [[nodiscard]] std::pmr::memory_resource* memory() const { return local_.how.memory; }

    const Local& local_;
    std::span<const placement> where_;
    const operands<T>& x_;
    const placement& me_;
    const key_block<T> keys_;
};

/// Forward: Q travels. Each rank that it sees computes a softmax over its own keys, and they are merged on the way.
template <element T, class Local>
class forward_with_queries : public staying_keys<T, Local> {
    using base = staying_keys<T, Local>;
    using A = accumulator_t<T>;

public:
    struct block {
        tensor_view<T> q; // [batch, rows, heads, head_dim]
        parcel message;
        [[nodiscard]] outgoing out() const noexcept { return message.out(); }
        [[nodiscard]] incoming in() noexcept { return message.in(); }
    };
    /// A finished softmax, and while it is made the partial.
    struct sum {
        tensor_view<A> lse, value; // [batch, rows, heads, 1], [batch, rows, heads, head_dim of v]
        parcel message;
        std::optional<partial<A>> seen;
        [[nodiscard]] outgoing out() const noexcept { return message.out(); }
        [[nodiscard]] incoming in() noexcept { return message.in(); }
    };

    forward_with_queries(const Local& local, std::span<const placement> where, const operands<T>& x, int rank)
        : base(local, where, x, rank), seen_(x.out.shape(), local.how.memory) {}

    void finish() { this->local_.template finish<T>(seen_, this->me_.queries, this->x_); }

    [[nodiscard]] block room_for_block(int owner) const {
        block b{{nullptr, this->rows_of(owner, this->x_.q.shape().dim)}, {}};
        b.message = parcel::room_for(this->memory(), b.q);
        return b;
    }
    [[nodiscard]] block own_block() const { return {{}, parcel::packed<T>(this->memory(), this->x_.q)}; }
    [[nodiscard]] sum room_for_sum(int owner) const {
        sum s{{nullptr, this->rows_of(owner, 1)}, {nullptr, this->rows_of(owner, this->x_.v.shape().dim)}, {}, {}};
        s.message = parcel::room_for(this->memory(), s.lse, s.value);
        return s;
    }
    [[nodiscard]] sum new_sum(int owner) const {
        sum s = room_for_sum(owner);
        s.seen.emplace(s.value.shape(), this->memory());
        return s;
    }
    template <class Travelling>
    void compute_own(Travelling& travelling) {
        fold({this->x_.q, this->me_.queries}, seen_, travelling);
    }
    template <class Travelling>
    void compute(const block& b, int owner, sum& made, Travelling& travelling) {
        fold({b.q, this->queries(owner)}, *made.seen, travelling);
    }
    static void close(sum& made, const sum* before) {
        if (before != nullptr) made.seen->merge(before->value, before->lse);
        made.seen->finish(made.value, made.lse);
        made.seen.reset();
    }
    void bring_home(const sum& arrived) { seen_.merge(arrived.value, arrived.lse); }

private:
    template <class Travelling>
    void fold(const seqpar::block<const T>& q, partial<A>& into, Travelling& travelling) {
        this->local_.fold(q, std::span(&this->keys_, 1), into, travelling);
    }

    partial<A> seen_; // of the own rows
};

/// Backward: what rows bring to their gradients travels, and dq follows and comes home; dk and dv stay.
template <element T, class Local>
class backward_with_queries : public staying_keys<T, Local> {
    using base = staying_keys<T, Local>;
    using A = accumulator_t<T>;

public:
    struct block {
        tensor_view<A> lse, delta; // [batch, rows, heads, 1]
        tensor_view<T> q, dout;    // [batch, rows, heads, head_dim], [batch, rows, heads, head_dim of v]
        parcel message;
        [[nodiscard]] outgoing out() const noexcept { return message.out(); }
        [[nodiscard]] incoming in() noexcept { return message.in(); }
    };
    struct sum {
        tensor_view<A> dq; // [batch, rows, heads, head_dim]
        parcel message;
        [[nodiscard]] outgoing out() const noexcept { return message.out(); }
        [[nodiscard]] incoming in() noexcept { return message.in(); }
    };

    backward_with_queries(const Local& local, std::span<const placement> where, const operands<T>& x,
                          const gradients<T>& g, int rank)
        : base(local, where, x, rank), g_(g) {}

    [[nodiscard]] block room_for_block(int owner) const {
        const tensor_view<A> per_row(nullptr, this->rows_of(owner, 1));
        block b{per_row,
                per_row,
                {nullptr, this->rows_of(owner, this->x_.q.shape().dim)},
                {nullptr, this->rows_of(owner, this->x_.v.shape().dim)},
                {}};
        b.message = parcel::room_for(this->memory(), b.lse, b.delta, b.q, b.dout);
        return b;
    }
    [[nodiscard]] block own_block() const {
        block b;
        b.message = parcel::packed<A, A, T, T>(this->memory(), g_.rows.lse, g_.rows.delta, this->x_.q, g_.rows.dout);
        return b;
    }
    [[nodiscard]] sum room_for_sum(int owner) const {
        sum s{{nullptr, this->rows_of(owner, this->x_.q.shape().dim)}, {}};
        s.message = parcel::room_for(this->memory(), s.dq);
        return s;
    }
    [[nodiscard]] sum new_sum(int owner) const {
        sum s = room_for_sum(owner);
        clear(s.dq);
        return s;
    }
    template <class Travelling>
    void compute_own(Travelling& travelling) {
        fold_back({this->x_.q, this->me_.queries}, g_.rows, g_.dq, travelling);
    }
    template <class Travelling>
    void compute(const block& b, int owner, sum& made, Travelling& travelling) {
        fold_back({b.q, this->queries(owner)}, {b.dout, b.lse, b.delta}, made.dq, travelling);
    }
    static void close(sum& made, const sum* before) {
        if (before != nullptr) accumulate(before->dq, made.dq);
    }
    void bring_home(const sum& arrived) const { accumulate(arrived.dq, g_.dq); }

private:
    template <class Travelling>
    void fold_back(const seqpar::block<const T>& q, const row_gradients<T>& rows, const tensor_view<A>& dq,
                   Travelling& travelling) {
        const key_gradients<A> dkv{g_.dk, g_.dv};
        this->local_.fold_back(q, rows, std::span(&this->keys_, 1), dq, std::span(&dkv, 1), travelling);
    }

    const gradients<T>& g_;
};

} // namespace seqpar::detail
