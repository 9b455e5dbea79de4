#pragma once

#include <seqpar/core/tensor.hpp>

#include <cstddef>

namespace seqpar::flash_detail {

/// Arrays one after the other in one buffer, each aligned as the buffer is.
class array_layout {
public:
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

protected:
    /// Where an array of `count` elements begins.
    template <class E>
    [[nodiscard]] std::size_t take(index_t count) noexcept {
        const std::size_t begin = bytes_, size = static_cast<std::size_t>(count) * sizeof(E);
        bytes_ += (size + buffer::alignment - 1) / buffer::alignment * buffer::alignment;
        return begin;
    }
    template <class E>
    [[nodiscard]] static E* at(std::byte* base, std::size_t offset) noexcept {
        return reinterpret_cast<E*>(base + offset);
    }

    std::size_t bytes_ = 0;
};

/// A head_dim, rounded up to full vectors.
[[nodiscard]] constexpr index_t padded_to(index_t lanes, index_t dim) noexcept {
    return (dim + lanes - 1) / lanes * lanes;
}

} // namespace seqpar::flash_detail
