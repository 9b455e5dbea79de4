#pragma once

#include <seqpar/core/element.hpp>
#include <seqpar/core/error.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <memory_resource>
#include <ostream>
#include <type_traits>
#include <utility>

namespace seqpar {

/// Counts, offsets and global positions: 64 bits, signed.
using index_t = std::ptrdiff_t;

/// Extents of a tensor, always named in this order whatever the order in memory.
struct extents {
    index_t batch = 0, seq = 0, heads = 0, dim = 0;

    [[nodiscard]] constexpr index_t count() const noexcept { return batch * seq * heads * dim; }
    friend constexpr bool operator==(const extents&, const extents&) = default;
    friend std::ostream& operator<<(std::ostream& out, const extents& e) {
        return out << "[batch " << e.batch << ", seq " << e.seq << ", heads " << e.heads << ", head_dim " << e.dim
                   << ']';
    }
};

/// Distance in elements between neighbours along each extent.
struct strides {
    index_t batch = 0, seq = 0, heads = 0, dim = 0;
    friend constexpr bool operator==(const strides&, const strides&) = default;
};

/// The order of a dense tensor in memory, slowest first.
enum class format {
    bshd, ///< [batch, seq, heads, head_dim], the library's own
    bhsd  ///< [batch, heads, seq, head_dim]
};

/// Strides of a dense tensor of these extents in that order.
[[nodiscard]] constexpr strides dense_strides(const extents& e, format order = format::bshd) noexcept {
    return order == format::bshd ? strides{e.seq * e.heads * e.dim, e.heads * e.dim, e.dim, 1}
                                 : strides{e.heads * e.seq * e.dim, e.dim, e.seq * e.dim, 1};
}

/// A 4-D strided view that owns nothing: pointer, extents, strides. T may be const. A view of ghosts has a null pointer.
template <class T>
class tensor_view {
public:
    using element_type = T;
    using value_type = std::remove_const_t<T>;

    tensor_view() = default;
    tensor_view(T* data, const extents& shape, const strides& step) noexcept
        : data_(data), shape_(shape), step_(step) {}
    tensor_view(T* data, const extents& shape, format order = format::bshd) noexcept
        : tensor_view(data, shape, dense_strides(shape, order)) {}

    /// A view of T is a view of const T.
    operator tensor_view<const T>() const noexcept // NOLINT
        requires(!std::is_const_v<T>) {
        return {data_, shape_, step_};
    }

    [[nodiscard]] const extents& shape() const noexcept { return shape_; }
    [[nodiscard]] const strides& step() const noexcept { return step_; }
    [[nodiscard]] T* data() const noexcept { return data_; }

    [[nodiscard]] T* at(index_t b, index_t s, index_t h, index_t d = 0) const noexcept {
        return data_ + (b * step_.batch + s * step_.seq + h * step_.heads + d * step_.dim);
    }
    [[nodiscard]] T& operator()(index_t b, index_t s, index_t h, index_t d = 0) const noexcept {
        assert(b >= 0 && b < shape_.batch && s >= 0 && s < shape_.seq && h >= 0 && h < shape_.heads && d >= 0 &&
               d < shape_.dim);
        return *at(b, s, h, d);
    }

    /// Rows first, first + every, ... (count of them) along seq: still a view.
    [[nodiscard]] tensor_view rows(index_t first, index_t count, index_t every = 1) const noexcept {
        tensor_view part = *this;
        part.data_ = offset(first * step_.seq);
        part.shape_.seq = count;
        part.step_.seq *= every;
        return part;
    }
    /// Heads [first, first + count).
    [[nodiscard]] tensor_view heads(index_t first, index_t count) const noexcept {
        tensor_view part = *this;
        part.data_ = offset(first * step_.heads);
        part.shape_.heads = count;
        return part;
    }

    [[nodiscard]] std::size_t wire_bytes() const noexcept {
        return static_cast<std::size_t>(shape_.count()) * element_traits<value_type>::wire_bytes;
    }

private:
    [[nodiscard]] T* offset(index_t by) const noexcept {
        if constexpr (ghost_element<value_type>) return data_;
        return data_ == nullptr ? nullptr : data_ + by;
    }

    T* data_ = nullptr;
    extents shape_;
    strides step_;
};

/// Copies element by element between views of equal extents, converting if the types differ; ghosts cost nothing.
template <class From, class To>
void copy(const tensor_view<From>& from, const tensor_view<To>& to) {
    using source = std::remove_const_t<From>;
    assert(from.shape() == to.shape());
    if constexpr (real_element<source>) {
        const extents& e = from.shape();
        const bool rows_are_bytes = std::is_same_v<source, To> && from.step().dim == 1 && to.step().dim == 1;
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t s = 0; s < e.seq; ++s)
                for (index_t h = 0; h < e.heads; ++h) {
                    const From* in = from.at(b, s, h);
                    To* out = to.at(b, s, h);
                    if (rows_are_bytes) {
                        if (e.dim > 0)
                            std::memcpy(static_cast<void*>(out), in, static_cast<std::size_t>(e.dim) * sizeof(To));
                    } else {
                        for (index_t d = 0; d < e.dim; ++d)
                            out[d * to.step().dim] = static_cast<To>(in[d * from.step().dim]);
                    }
                }
    }
}

/// Adds element by element between views of equal extents; ghosts cost nothing.
template <class From, class To>
void accumulate(const tensor_view<From>& from, const tensor_view<To>& to) {
    assert(from.shape() == to.shape());
    if constexpr (real_element<std::remove_const_t<From>>) {
        const extents& e = from.shape();
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t s = 0; s < e.seq; ++s)
                for (index_t h = 0; h < e.heads; ++h)
                    for (index_t d = 0; d < e.dim; ++d) *to.at(b, s, h, d) += static_cast<To>(*from.at(b, s, h, d));
    }
}

/// Sets every element to zero; ghosts cost nothing.
template <class T>
void clear(const tensor_view<T>& x) {
    if constexpr (real_element<T>) {
        const extents& e = x.shape();
        const bool dense = x.step().dim == 1;
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t s = 0; s < e.seq; ++s)
                for (index_t h = 0; h < e.heads; ++h) {
                    if (dense) std::fill_n(x.at(b, s, h), e.dim, T{});
                    for (index_t d = 0; !dense && d < e.dim; ++d) *x.at(b, s, h, d) = T{};
                }
    }
}

/// Bytes aligned to a cache line, from a memory resource that the caller chooses (and may count). Move only.
class buffer {
public:
    static constexpr std::size_t alignment = 64;

    buffer() = default;
    explicit buffer(std::size_t bytes, std::pmr::memory_resource* memory = std::pmr::get_default_resource())
        : bytes_(bytes), memory_(memory),
          data_(bytes == 0 ? nullptr : static_cast<std::byte*>(memory->allocate(bytes, alignment))) {}

    buffer(buffer&& other) noexcept
        : bytes_(std::exchange(other.bytes_, 0)), memory_(other.memory_), data_(std::exchange(other.data_, nullptr)) {}
    buffer& operator=(buffer&& other) noexcept {
        std::swap(bytes_, other.bytes_);
        std::swap(memory_, other.memory_);
        std::swap(data_, other.data_);
        return *this;
    }
    ~buffer() {
        if (data_ != nullptr) memory_->deallocate(data_, bytes_, alignment);
    }

    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_; }

private:
    std::size_t bytes_ = 0;
    std::pmr::memory_resource* memory_ = nullptr;
    std::byte* data_ = nullptr;
};

/// The owner of a dense tensor, 64-byte aligned; elements start at zero. Move only: a copy is always written out.
/// A tensor of ghosts allocates nothing.
template <element T>
class tensor {
public:
    tensor() = default;
    explicit tensor(const extents& shape, format order = format::bshd,
                    std::pmr::memory_resource* memory = std::pmr::get_default_resource())
        : tensor(unset(shape, memory, order)) {
        if constexpr (real_element<T>) std::fill_n(data(), shape.count(), T{});
    }
    /// One whose elements are whatever the memory holds, for who writes all of them.
    [[nodiscard]] static tensor unset(const extents& shape, std::pmr::memory_resource* memory,
                                      format order = format::bshd) {
        tensor x;
        x.storage_ = buffer(bytes(shape), memory);
        x.shape_ = shape;
        x.step_ = dense_strides(shape, order);
        return x;
    }

    /// Bytes that a tensor of these extents holds.
    [[nodiscard]] static std::size_t bytes(const extents& shape) noexcept {
        return static_cast<std::size_t>(shape.count()) * element_traits<T>::stored_bytes;
    }

    [[nodiscard]] const extents& shape() const noexcept { return shape_; }
    [[nodiscard]] T* data() noexcept { return reinterpret_cast<T*>(storage_.data()); }
    [[nodiscard]] const T* data() const noexcept { return reinterpret_cast<const T*>(storage_.data()); }

    [[nodiscard]] tensor_view<T> view() noexcept { return {data(), shape_, step_}; }
    [[nodiscard]] tensor_view<const T> view() const noexcept { return {data(), shape_, step_}; }
    operator tensor_view<T>() noexcept { return view(); }             // NOLINT
    operator tensor_view<const T>() const noexcept { return view(); } // NOLINT

    [[nodiscard]] T& operator()(index_t b, index_t s, index_t h, index_t d = 0) noexcept { return view()(b, s, h, d); }
    [[nodiscard]] const T& operator()(index_t b, index_t s, index_t h, index_t d = 0) const noexcept {
        return view()(b, s, h, d);
    }

private:
    buffer storage_;
    extents shape_;
    strides step_;
};

} // namespace seqpar
