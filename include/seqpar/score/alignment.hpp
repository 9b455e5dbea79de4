#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/score/score.hpp>

#include <string>

namespace seqpar {

/// Where query 0 stands among the keys: query i is at position i + shift. Matters when Nq != Nk.
///
/// top_left: shift 0 (ONNX Attention's is_causal, PyTorch's is_causal).
/// bottom_right: shift Nk - Nq, so that the last query sees the last key (FlashAttention since 2.1).
/// at(n): shift n; a chunk of queries that continues a cache of n keys.
class alignment {
public:
    /// Largest shift or window that is allowed, either way: sums of two never overflow.
    static constexpr index_t limit = index_t{1} << 60;

    constexpr alignment() = default; // top_left
    [[nodiscard]] static constexpr alignment top_left() noexcept { return {}; }
    [[nodiscard]] static constexpr alignment bottom_right() noexcept { return alignment(true, 0); }
    [[nodiscard]] static constexpr alignment at(index_t offset) noexcept { return alignment(false, offset); }

    [[nodiscard]] constexpr index_t shift(lengths n) const noexcept {
        return at_the_end_ ? n.keys - n.queries : offset_;
    }

    void check() const {
        if (offset_ > limit || offset_ < -limit)
            throw refusal(detail::concat("query offset ", offset_, " is out of range: allowed are -2^60 to 2^60"));
    }
    [[nodiscard]] std::string name() const {
        return at_the_end_ ? "bottom-right" : offset_ == 0 ? "top-left" : "at " + std::to_string(offset_);
    }
    friend constexpr bool operator==(const alignment&, const alignment&) = default;

private:
    constexpr alignment(bool at_the_end, index_t offset) noexcept : at_the_end_(at_the_end), offset_(offset) {}

    bool at_the_end_ = false;
    index_t offset_ = 0;
};

} // namespace seqpar
