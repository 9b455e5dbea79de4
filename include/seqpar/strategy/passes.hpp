#pragma once

#include <seqpar/core/binned.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <cstddef>
#include <memory_resource>
#include <optional>
#include <span>
#include <type_traits>

namespace seqpar::detail {

/// A result that is computed in the type A: where it is if that is its type, else beside it.
template <element T, element A>
class computed_in {
public:
    computed_in(const tensor_view<T>& result, std::pmr::memory_resource* memory) : result_(result) {
        if constexpr (!std::is_same_v<T, A>) wide_ = tensor<A>(result.shape(), format::bshd, memory);
    }
    [[nodiscard]] tensor_view<A> view() noexcept {
        if constexpr (std::is_same_v<T, A>)
            return result_;
        else
            return wide_.view();
    }
    void finish() const {
        if constexpr (!std::is_same_v<T, A>) copy(wide_.view(), result_);
    }

private:
    tensor_view<T> result_;
    tensor<A> wide_;
};

/// An input that is wanted in the type A: where it is if that is its type, else a copy.
template <element T, element A>
class wanted_in {
public:
    wanted_in(const tensor_view<const T>& x, std::pmr::memory_resource* memory) : input_(x) {
        if constexpr (!std::is_same_v<T, A>) {
            wide_ = tensor<A>::unset(x.shape(), memory);
            copy(x, wide_.view());
        }
    }
    [[nodiscard]] tensor_view<const A> view() const noexcept {
        if constexpr (std::is_same_v<T, A>)
            return input_;
        else
            return wide_.view();
    }

private:
    tensor_view<const T> input_;
    tensor<A> wide_;
};

/// What a bound strategy keeps; nothing, if it has no backward.
template <class Bound, class T>
struct kept_by {
    struct type {};
};
template <class Bound, class T>
    requires requires { typename Bound::template saved<T>; }
struct kept_by<Bound, T> {
    using type = typename Bound::template saved<T>;
};

/// Where backward writes: [batch, rows, heads, head_dim], [batch, key rows, kv_heads, head_dim or head_dim of v].
template <element T>
struct gradient_views {
    tensor_view<T> dq, dk, dv;
};

/// The passes of a bound strategy over tensors of T as a user has them, while blocks travel and are computed as elements E
/// (see kernel_element) and sums are kept in E's accumulator. All scratch comes from local.how.memory.
template <element E, element T>
struct passes {
    using A = accumulator_t<T>;
    using sum = accumulator_t<E>;
    static constexpr bool other_sums = !std::is_same_v<A, sum>;

    /// `keep`: where the strategy may keep what it has moved, or null.
    template <class Bound, class Local>
    static void forward(Bound& bound, const Local& local, std::span<const placement> where, const operands<T>& x,
                        typename kept_by<Bound, E>::type* keep = nullptr) {
        std::optional<computed_in<A, sum>> lse;
        if (x.wants_lse()) lse.emplace(x.lse, local.how.memory);
        const operands<E> inner{viewed_as<const E>(x.q), viewed_as<const E>(x.k), viewed_as<const E>(x.v),
                                viewed_as<E>(x.out), lse ? lse->view() : tensor_view<sum>{}};
        if constexpr (requires { typename Bound::template saved<E>; })
            bound.template forward<E>(local, where, inner, keep);
        else
            bound.template forward<E>(local, where, inner);
        if (lse) lse->finish();
    }

    /// rows: of this rank, of the whole softmax. into_lse: delta holds a gradient that flows into lse.
    template <class Bound, class Local>
    static void backward(Bound& bound, const Local& local, std::span<const placement> where, const operands<T>& x,
                         const row_gradients<T>& rows, bool into_lse, const gradient_views<T>& to,
                         const typename kept_by<Bound, E>::type& kept = {}) {
        std::pmr::memory_resource* const memory = local.how.memory;
        const wanted_in<A, sum> lse(rows.lse, memory), delta(rows.delta, memory);
        computed_in<E, sum> dq(viewed_as<E>(to.dq), memory), dk(viewed_as<E>(to.dk), memory),
            dv(viewed_as<E>(to.dv), memory);
        if constexpr (std::is_same_v<E, sum>) clear(to.dq), clear(to.dk), clear(to.dv); // else they start at zero
        bound.template backward<E>(
            local, where,
            operands<E>{viewed_as<const E>(x.q), viewed_as<const E>(x.k), viewed_as<const E>(x.v), {}, {}},
            gradients<E>{{viewed_as<const E>(rows.dout), lse.view(), delta.view()},
                         into_lse,
                         true,
                         dq.view(),
                         dk.view(),
                         dv.view()},
            kept);
        dq.finish(), dk.finish(), dv.finish();
    }

    /// Bytes that the passes hold beside the strategy's own, for `rows` rows x heads, and gradients of so many bytes.
    [[nodiscard]] static std::size_t forward_bytes(std::size_t rows, bool lse) noexcept {
        return other_sums && lse ? rows * element_traits<sum>::stored_bytes : 0;
    }
    [[nodiscard]] static std::size_t backward_bytes(std::size_t rows, std::size_t gradients) noexcept {
        constexpr std::size_t wide = element_traits<sum>::wire_bytes, narrow = element_traits<T>::wire_bytes;
        return (other_sums ? 2 * rows * wide : 0) + (std::is_same_v<T, sum> ? 0 : gradients / narrow * wide);
    }
};

} // namespace seqpar::detail
