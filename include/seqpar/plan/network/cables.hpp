#pragma once

#include <seqpar/plan/machine.hpp>
#include <seqpar/plan/network/dragonfly.hpp>
#include <seqpar/plan/network/fat_tree.hpp>
#include <seqpar/plan/network/torus.hpp>

#include <array>
#include <cstddef>
#include <variant>

namespace seqpar::plan {

/// One node has no cables.
struct no_cables {
    [[nodiscard]] std::size_t links() const noexcept { return 0; }
    template <class Visit>
    void route(int, int, Visit&&) const {}
};

/// The cables between the nodes of a machine, each as links of one direction, numbered from 0 to links() - 1.
/// route(from, to, visit) calls visit(link) for each on the way from one node to another.
using cables = std::variant<no_cables, fat_tree_cables, torus_cables, dragonfly_cables>;

/// @pre m.nodes() has not thrown
[[nodiscard]] inline cables cables_of(const machine& m) {
    switch (m.shape) {
    case network_shape::none:
        break;
    case network_shape::one_switch:
        return fat_tree_cables(std::array{m.extents[0], 1});
    case network_shape::fat_tree:
        return fat_tree_cables(m.extents);
    case network_shape::torus:
        return torus_cables(m.extents);
    case network_shape::dragonfly:
        return dragonfly_cables(m.extents);
    }
    return no_cables{};
}

} // namespace seqpar::plan
