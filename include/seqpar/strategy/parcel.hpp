#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/core/block.hpp>
#include <seqpar/core/tensor.hpp>

#include <cassert>
#include <cstddef>
#include <memory_resource>
#include <span>

namespace seqpar {

/// Dense tensors side by side in one buffer: they travel as one message. Carve them out in the same order on both sides,
/// wider elements first. Carving again from the start reuses the buffer.
class parcel {
public:
    parcel() = default;
    /// Room for that many bytes of storage.
    parcel(std::size_t capacity, std::pmr::memory_resource* memory) : storage_(capacity, memory) {}

    void clear() noexcept { stored_ = wire_ = 0; }

    /// The next tensor of the parcel, dense. Its elements are whatever the buffer holds.
    template <element T>
    [[nodiscard]] tensor_view<T> carve(const extents& shape) {
        const std::size_t at = stored_;
        stored_ += tensor<T>::bytes(shape);
        wire_ += static_cast<std::size_t>(shape.count()) * element_traits<T>::wire_bytes;
        assert(stored_ <= storage_.size());
        return {storage_.data() == nullptr ? nullptr : reinterpret_cast<T*>(storage_.data() + at), shape};
    }

    /// A parcel with room for tensors of the shapes of these views, which are made to look into it.
    template <element... T>
    [[nodiscard]] static parcel room_for(std::pmr::memory_resource* memory, tensor_view<T>&... views) {
        parcel p((std::size_t{0} + ... + tensor<T>::bytes(views.shape())), memory);
        ((views = p.carve<T>(views.shape())), ...);
        return p;
    }
    /// A parcel that holds copies of these views.
    template <element... T>
    [[nodiscard]] static parcel packed(std::pmr::memory_resource* memory, const tensor_view<const T>&... views) {
        parcel p((std::size_t{0} + ... + tensor<T>::bytes(views.shape())), memory);
        (copy(views, p.carve<T>(views.shape())), ...);
        return p;
    }

    [[nodiscard]] outgoing out() const noexcept { return {storage_.data(), wire_}; }
    [[nodiscard]] incoming in() noexcept { return {storage_.data(), wire_}; }

private:
    buffer storage_;
    std::size_t stored_ = 0, wire_ = 0;
};

/// K and V of one rank in one parcel.
template <element T>
class kv_parcel {
public:
    kv_parcel() = default;
    kv_parcel(std::size_t capacity, std::pmr::memory_resource* memory) : parcel_(capacity, memory) {}

    /// Shapes the parcel for K and V of an origin: [batch, its rows, its heads, dim] and [..., dim_v].
    void shape(const origin& at, index_t batch, index_t dim, index_t dim_v) {
        at_ = &at;
        parcel_.clear();
        k_ = parcel_.template carve<T>({batch, at.rows.size(), at.heads.count, dim});
        v_ = parcel_.template carve<T>({batch, at.rows.size(), at.heads.count, dim_v});
    }
    void fill(const tensor_view<const T>& k, const tensor_view<const T>& v) const {
        copy(k, k_);
        copy(v, v_);
    }

    /// Sets all to zero.
    void clear() const {
        seqpar::clear(k_);
        seqpar::clear(v_);
    }
    /// Adds another of the same shape.
    void add(const kv_parcel& other) const {
        accumulate(other.k_, k_);
        accumulate(other.v_, v_);
    }

    /// All elements, those of K before those of V.
    [[nodiscard]] std::span<T> elements() const noexcept {
        return {k_.data(), static_cast<std::size_t>(k_.shape().count() + v_.shape().count())};
    }
    [[nodiscard]] const tensor_view<T>& k() const noexcept { return k_; }
    [[nodiscard]] const tensor_view<T>& v() const noexcept { return v_; }
    [[nodiscard]] key_block<T> block() const { return {k_, v_, *at_}; }
    [[nodiscard]] outgoing out() const noexcept { return parcel_.out(); }
    [[nodiscard]] incoming in() noexcept { return parcel_.in(); }

    /// Bytes of storage that a parcel for this origin needs.
    [[nodiscard]] static std::size_t bytes(const origin& at, index_t batch, index_t dim, index_t dim_v) {
        return tensor<T>::bytes({batch, at.rows.size(), at.heads.count, dim + dim_v});
    }

private:
    parcel parcel_;
    tensor_view<T> k_, v_;
    const origin* at_ = nullptr;
};

} // namespace seqpar
