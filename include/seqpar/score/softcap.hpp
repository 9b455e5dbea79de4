#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/text.hpp>

#include <cmath>
#include <limits>
#include <span>
#include <string>

namespace seqpar {

/// Bounds scores smoothly: x becomes cap * tanh(x / cap).
/// (Gemma 2, arXiv:2408.00118, section 2; the softcap of FlashAttention and of ONNX Attention, opset 24.) A score of -inf
/// stays: what a function has hidden is not seen again as -cap.
struct softcap : full {
    double cap = 30;

    explicit softcap(double bound) : cap(bound) {}

    void check() const {
        if (!std::isfinite(cap) || cap <= 0)
            throw refusal(detail::concat("softcap of ", cap, ": it must be finite and above 0; usual are 20 to 50"));
    }
    [[nodiscard]] score_stages stages() const noexcept { return bit(score_stage::cap); }
    template <class A>
    void modify(score_stage, const score_row&, std::span<A> x, std::span<A> slope) const {
        const A c = static_cast<A>(cap);
        constexpr A hidden = -std::numeric_limits<A>::infinity();
        for (std::size_t j = 0; j < x.size(); ++j) {
            const A t = std::tanh(x[j] / c);
            x[j] = x[j] == hidden ? hidden : c * t;
            if (!slope.empty()) slope[j] *= (1 - t) * (1 + t);
        }
    }
    [[nodiscard]] std::string name() const { return "softcap(" + exact_text(cap) + ')'; }
};
static_assert(score<softcap>);

} // namespace seqpar
