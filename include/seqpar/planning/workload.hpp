#pragma once

#include <seqpar/core/element.hpp>
#include <seqpar/core/origin.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/kernel/priced.hpp>
#include <seqpar/kernel/tiles_seen.hpp>
#include <seqpar/plan/machine.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/full.hpp>

#include <cstddef>
#include <string_view>

namespace seqpar {

/// What tensors are stored as.
enum class storage { float32, float64, bfloat16 };

[[nodiscard]] constexpr std::size_t element_bytes(storage s) noexcept {
    return s == storage::float64 ? 8 : s == storage::float32 ? 4 : 2;
}
[[nodiscard]] constexpr std::size_t accumulator_bytes(storage s) noexcept { return s == storage::float64 ? 8 : 4; }
[[nodiscard]] constexpr std::string_view to_string(storage s) noexcept {
    return s == storage::float64 ? "double" : s == storage::float32 ? "float" : "bfloat16";
}
[[nodiscard]] inline const plan::compute_rate& rate(const plan::machine& m, storage s) noexcept {
    return s == storage::float64 ? m.float64 : s == storage::float32 ? m.float32 : m.bfloat16;
}

/// An attention to be planned or simulated: what is computed, whatever computes it.
struct workload {
    attention_shape shape; ///< over all ranks
    any_score score = full{};
    storage type = storage::bfloat16;
    bool train = false; ///< a forward and a backward; else a forward
    bool keep = false;  ///< forward keeps what it has moved, for backward
    bool lse = false;   ///< lse is wanted, too; in training it always is

    /// Of all ranks, in tiles that the score lets some row and key of see each other.
    [[nodiscard]] double flops() const {
        const positions rows = positions::whole(shape.queries), keys = positions::whole(shape.keys);
        const double pairs = pairs_in_tiles(score, {shape.queries, shape.keys}, rows, keys) *
                             static_cast<double>(shape.batch * shape.heads);
        const kernel_work forward{false, pairs, shape.dim, shape.dim_v}, backward{true, pairs, shape.dim, shape.dim_v};
        return forward.flops() + (train ? backward.flops() : 0);
    }
};

} // namespace seqpar
