#pragma once

#include <seqpar/plan/cost.hpp>

#include <span>

namespace seqpar::plan {

/// One rank, nothing sent: the partial and the kernel's scratch.
[[nodiscard]] inline cost serial_cost(const problem& p, int rank) {
    const positions& keys = p.of(rank).keys.rows;
    p.tell({}, rank, {&keys, 1});
    return {0, 0, 0, p.partial_bytes(rank) + p.kernel(rank, {&keys, 1})};
}

/// Its backward: the kernel's scratch.
[[nodiscard]] inline cost serial_backward_cost(const problem& p, int rank) {
    const positions& keys = p.of(rank).keys.rows;
    p.tell({}, rank, {&keys, 1});
    return {0, 0, 0, p.backward_kernel(rank, {&keys, 1})};
}

} // namespace seqpar::plan
