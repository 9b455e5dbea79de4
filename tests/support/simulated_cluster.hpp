/// @file
/// Simulated machines for tests: small numbers, easy to compute with.
#pragma once

#include <seqpar/plan/machine.hpp>

namespace seqpar::testing {

/// One node of so many ranks: 1 us and 1 GB/s between any two.
[[nodiscard]] inline plan::machine one_node(int ranks) {
    plan::machine m;
    m.name = "node";
    m.ranks_per_node = ranks;
    m.memory = std::size_t{1} << 30;
    m.float32 = m.float64 = m.bfloat16 = {1e9, 1e9};
    m.inside = {1e-6, 1e9};
    m.ports = 1;
    m.port = {1e-6, 1e9};
    return m;
}

/// Nodes of 4 ranks with a port each, on a fat tree that keeps all bandwidth: 16 x 16 nodes.
[[nodiscard]] inline plan::machine fat_tree_of_nodes() {
    plan::machine m = one_node(4);
    m.name = "tree";
    m.ports = 4;
    m.port = {3e-6, 5e8};
    m.shape = plan::network_shape::fat_tree;
    m.extents = {16, 16, 1, 16};
    m.cable = {5e-7, 2e9};
    return m;
}

} // namespace seqpar::testing
