#pragma once

#include <seqpar/backend/backend.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/tensor.hpp>

#include <xtensor/xstrides.hpp>
#include <xtensor/xtensor.hpp>

#include <array>
#include <cstddef>

namespace seqpar {

/// xtensor expressions with memory behind them: xt::xtensor, xt::xarray, adaptors and strided views, of any layout, in;
/// xt::xtensor out. No copy. order is that of the axes, in and out: bshd [batch, seq, heads, head_dim] or bhsd.
template <element T>
    requires real_element<T>
struct xtensor_backend {
    using value_type = T;

    format order = format::bshd;

    /// An expression that has to be evaluated first (a sum, say) has no memory: give xt::eval of it.
    template <class E>
        requires requires(const E& x) {
            x.data();
            x.strides();
            x.data_offset();
        }
    [[nodiscard]] tensor_view<const T> view(const E& x) const { return look<const T>(x, x.data() + x.data_offset()); }
    [[nodiscard]] tensor_view<T> view(xt::xtensor<T, 4>& x) const { return look<T>(x, x.data()); }

    [[nodiscard]] tensor_view<accumulator_t<T>> view_lse(xt::xtensor<accumulator_t<T>, 3>& x) const {
        return {x.data(), lse_shape(x), format::bhsd};
    }
    [[nodiscard]] tensor_view<const accumulator_t<T>> view_lse(const xt::xtensor<accumulator_t<T>, 3>& x) const {
        return {x.data(), lse_shape(x), format::bhsd};
    }

    [[nodiscard]] xt::xtensor<T, 4> make(const extents& e) const {
        const std::array<std::size_t, 4> shape =
            order == format::bshd ? std::array{size(e.batch), size(e.seq), size(e.heads), size(e.dim)}
                                  : std::array{size(e.batch), size(e.heads), size(e.seq), size(e.dim)};
        xt::xtensor<T, 4> out(shape);
        out.fill(T{});
        return out;
    }
    [[nodiscard]] xt::xtensor<accumulator_t<T>, 3> make_lse(const extents& e) const {
        const std::array<std::size_t, 3> shape{size(e.batch), size(e.heads), size(e.seq)};
        xt::xtensor<accumulator_t<T>, 3> lse(shape);
        lse.fill(accumulator_t<T>{});
        return lse;
    }

private:
    [[nodiscard]] static extents lse_shape(const xt::xtensor<accumulator_t<T>, 3>& x) {
        return {static_cast<index_t>(x.shape(0)), static_cast<index_t>(x.shape(2)), static_cast<index_t>(x.shape(1)),
                1};
    }
    [[nodiscard]] static std::size_t size(index_t n) noexcept { return static_cast<std::size_t>(n); }

    template <class V, class E>
    [[nodiscard]] tensor_view<V> look(const E& x, V* data) const {
        if (x.dimension() != 4)
            throw refusal(detail::concat("a tensor of ", x.dimension(), " axes: attention takes 4, ",
                                         order == format::bshd ? "[batch, seq, heads, head_dim]"
                                                               : "[batch, heads, seq, head_dim]"));
        const auto shape = [&](std::size_t axis) { return static_cast<index_t>(x.shape()[axis]); };
        const auto stride = [&](std::size_t axis) { return static_cast<index_t>(x.strides()[axis]); };
        const std::size_t seq = order == format::bshd ? 1 : 2, heads = order == format::bshd ? 2 : 1;
        return {data, extents{shape(0), shape(seq), shape(heads), shape(3)},
                strides{stride(0), stride(seq), stride(heads), stride(3)}};
    }
};
static_assert(tensor_backend<xtensor_backend<float>> && tensor_backend<xtensor_backend<double>>);

} // namespace seqpar
