#pragma once

#include <seqpar/comm/simgrid/node.hpp>
#include <seqpar/plan/machine.hpp>

#include <simgrid/s4u.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {
namespace detail {

/// The zone of the cables. It asks `leaf` for each node of the machine, in order.
inline s4u::NetZone* add_cables(const plan::machine& m, const s4u::NetZone* root, const s4u::ClusterCallbacks& leaf) {
    constexpr auto duplex = s4u::Link::SharingPolicy::SPLITDUPLEX;
    const double bandwidth = m.cable.bandwidth, latency = m.cable.latency;
    const std::vector<unsigned> extents(m.extents.begin(), m.extents.end());
    const auto tree = [&](const std::vector<unsigned>& down, const std::vector<unsigned>& up) {
        const auto levels = static_cast<unsigned>(down.size());
        const s4u::FatTreeParams shape(levels, down, up, std::vector<unsigned>(levels, 1U));
        return s4u::create_fatTree_zone("cables", root, shape, leaf, bandwidth, latency, duplex);
    };
    const auto middle = extents.begin() + static_cast<std::ptrdiff_t>(extents.size() / 2);
    switch (m.shape) {
    case plan::network_shape::none:
        break;
    case plan::network_shape::one_switch:
        return tree(extents, {1U});
    case plan::network_shape::fat_tree:
        return tree({extents.begin(), middle}, {middle, extents.end()});
    case plan::network_shape::torus:
        return s4u::create_torus_zone("cables", root, {extents.begin(), extents.end()}, leaf, bandwidth, latency,
                                      duplex);
    case plan::network_shape::dragonfly:
        return s4u::create_dragonfly_zone("cables", root,
                                          {{extents[0], 1U}, {extents[1], 1U}, {extents[2], 1U}, extents[3]}, leaf,
                                          bandwidth, latency, duplex);
    }
    return nullptr;
}

} // namespace detail

/// Makes a machine the platform of the simulation, and gives the host of each rank of a run, in order. A host does one flop in a
/// second. plan::network has the same links in closed form: messages take the same ways. A rank has no way to itself.
///
/// Nodes of the machine that hold no rank of the run are bare routers. Takes O(ranks * ranks_per_node) routes, of a machine of
/// one node O(ranks), and all cables of the machine.
/// @pre an s4u::Engine exists. There is one platform in a process: SimGrid goes on counting the nodes of its first fat tree.
/// @throws refusal if the machine has a field that cannot be, or fewer ranks
[[nodiscard]] inline std::vector<simgrid::s4u::Host*> build_platform(const plan::machine& m, int ranks) {
    namespace s4u = simgrid::s4u;
    plan::check_run(m, ranks);
    if (m.shape == plan::network_shape::none) {
        s4u::NetZone* const node = s4u::create_star_zone("node0");
        detail::hosts all = detail::build_only_node(node, m, ranks);
        node->seal();
        return all;
    }
    s4u::NetZone* const root = s4u::create_full_zone("machine");
    detail::hosts all;
    const auto leaf = [&](s4u::NetZone* cables, const std::vector<unsigned long>&, unsigned long id) {
        const std::string name = "node" + std::to_string(id);
        const int first = static_cast<int>(id) * m.ranks_per_node;
        if (first >= ranks)
            return std::pair<detail::netpoint*, detail::netpoint*>(cables->create_router(name), nullptr);
        s4u::NetZone* const node = s4u::create_full_zone(name);
        node->set_parent(cables);
        detail::netpoint* const router = node->create_router(name + ".router");
        const detail::hosts here =
            detail::build_node(node, cables, router, m, first, std::min(m.ranks_per_node, ranks - first));
        all.insert(all.end(), here.begin(), here.end());
        node->seal();
        return std::pair(node->get_netpoint(), router);
    };
    detail::add_cables(m, root, s4u::ClusterCallbacks(leaf))->seal();
    root->seal();
    return all;
}

} // namespace seqpar
