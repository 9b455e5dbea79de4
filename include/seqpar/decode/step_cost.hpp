#pragma once

#include <seqpar/plan/cost.hpp>
#include <seqpar/plan/tree_cost.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>

namespace seqpar::plan {

/// A step of decoding: one result, (out, lse) of `rows` rows and heads over the rank's own keys in the accumulation type, to
/// be merged over P ranks by recursive doubling: rows (head_dim of v + 1) accumulators a message, log2 P messages and rounds
/// if P is a power of two; else at most floor(log2 P) + 1 and floor(log2 P) + 2. Nothing grows with the keys.
///
/// Memory: the rank's result and the largest of: `computing`, what the kernel's part of a sequence takes beside it; another
/// result and a `partial`, if P > 1; `finishing`, a partial and what out and lse are computed in, if not in place.
[[nodiscard]] inline cost decode_step_cost(int size, int rank, std::size_t rows, index_t dim_v,
                                           std::size_t accumulator_bytes, std::size_t computing, std::size_t partial,
                                           std::size_t finishing) {
    const std::size_t result = rows * static_cast<std::size_t>(dim_v + 1) * accumulator_bytes;
    const int doubled = doubled_ranks(size);
    const bool told = rank >= doubled; // the result is merged elsewhere
    cost c;
    c.memory = result + std::max({computing, size > 1 && !told ? result + partial : 0, finishing});
    if (result == 0) return c;
    const std::size_t outside = rank < size - doubled ? 1 : 0,
                      doublings = static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(doubled)));
    c.messages = told ? 1 : doublings + outside;
    c.rounds = told ? 2 : doublings + 2 * outside;
    c.bytes = c.messages * result;
    return c;
}

} // namespace seqpar::plan
