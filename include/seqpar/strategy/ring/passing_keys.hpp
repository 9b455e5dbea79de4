#pragma once

#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/ring/travel.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <cstddef>
#include <span>

namespace seqpar::detail {

/// A parcel with room for K and V of that origin, or for their gradients.
template <element E, element T>
[[nodiscard]] kv_parcel<E> room_for_keys(const origin& at, const operands<T>& x, std::pmr::memory_resource* memory) {
    const index_t batch = x.k.shape().batch, dim = x.k.shape().dim, dim_v = x.v.shape().dim;
    kv_parcel<E> p(kv_parcel<E>::bytes(at, batch, dim, dim_v), memory);
    p.shape(at, batch, dim, dim_v);
    return p;
}

/// What both passes have in common: K, V of a rank travel.
template <element T, class Local>
class travelling_keys {
public:
    using block = kv_parcel<T>;

    travelling_keys(const Local& local, std::span<const placement> where, const operands<T>& x, int rank)
        : local_(local), where_(where), x_(x), me_(where[static_cast<std::size_t>(rank)]), q_{x.q, me_.queries} {}

    [[nodiscard]] block own_block() const {
        block own = room_for_keys<T>(me_.keys, x_, local_.how.memory);
        own.fill(x_.k, x_.v);
        return own;
    }
    [[nodiscard]] block room_for_block(int owner) const { return room_for_keys<T>(keys(owner), x_, local_.how.memory); }

protected:
    [[nodiscard]] const origin& keys(int owner) const { return where_[static_cast<std::size_t>(owner)].keys; }
    [[nodiscard]] key_block<T> own_keys() const { return {x_.k, x_.v, me_.keys}; }

    const Local& local_;
    std::span<const placement> where_;
    const operands<T>& x_;
    const placement& me_;
    seqpar::block<const T> q_;
};

/// Forward: every rank folds the blocks that come by into the partial of its own rows.
template <element T, class Local>
class forward_with_keys : public travelling_keys<T, Local> {
    using base = travelling_keys<T, Local>;

public:
    using sum = no_message;
    using typename base::block;

    forward_with_keys(const Local& local, std::span<const placement> where, const operands<T>& x, int rank)
        : base(local, where, x, rank), seen_(x.out.shape(), local.how.memory) {}

    void finish() { this->local_.template finish<T>(seen_, this->q_.at, this->x_); }

    template <class Travelling>
    void compute_own(Travelling& travelling) {
        fold(this->own_keys(), travelling);
    }
    template <class Travelling>
    void compute(const block& kv, int, sum&, Travelling& travelling) {
        fold(kv.block(), travelling);
    }
    [[nodiscard]] static sum new_sum(int) { return {}; }
    [[nodiscard]] static sum room_for_sum(int) { return {}; }
    static void close(sum&, const sum*) {}
    static void bring_home(const sum&) {}

private:
    template <class Travelling>
    void fold(const key_block<T>& keys, Travelling& travelling) {
        this->local_.fold(this->q_, std::span(&keys, 1), seen_, travelling);
    }

    partial<accumulator_t<T>> seen_;
};

/// Backward: dq stays; the gradients of a block are summed along its way.
template <element T, class Local>
class backward_with_keys : public travelling_keys<T, Local> {
    using base = travelling_keys<T, Local>;
    using A = accumulator_t<T>;

public:
    using sum = kv_parcel<A>; // dk, dv
    using typename base::block;

    backward_with_keys(const Local& local, std::span<const placement> where, const operands<T>& x,
                       const gradients<T>& g, int rank)
        : base(local, where, x, rank), g_(g) {}

    template <class Travelling>
    void compute_own(Travelling& travelling) {
        fold_back(this->own_keys(), {g_.dk, g_.dv}, travelling);
    }
    template <class Travelling>
    void compute(const block& kv, int, sum& made, Travelling& travelling) {
        fold_back(kv.block(), {made.k(), made.v()}, travelling);
    }
    [[nodiscard]] sum room_for_sum(int owner) const {
        return room_for_keys<A>(this->keys(owner), this->x_, this->local_.how.memory);
    }
    [[nodiscard]] sum new_sum(int owner) const {
        sum s = room_for_sum(owner);
        s.clear();
        return s;
    }
    static void close(sum& made, const sum* before) {
        if (before != nullptr) made.add(*before);
    }
    void bring_home(const sum& arrived) const {
        accumulate(arrived.k(), g_.dk);
        accumulate(arrived.v(), g_.dv);
    }

private:
    template <class Travelling>
    void fold_back(const key_block<T>& keys, const key_gradients<A>& into, Travelling& travelling) {
        this->local_.fold_back(this->q_, g_.rows, std::span(&keys, 1), g_.dq, std::span(&into, 1), travelling);
    }

    const gradients<T>& g_;
};

} // namespace seqpar::detail
