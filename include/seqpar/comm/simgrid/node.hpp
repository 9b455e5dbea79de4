#pragma once

#include <seqpar/plan/machine.hpp>

#include <simgrid/s4u.hpp>
#include <simgrid/version.h>

#include <cstddef>
#include <string>
#include <vector>

#if SIMGRID_VERSION_MAJOR != 3
#error "seqpar/comm/simgrid/ is written for SimGrid 3; SimGrid 4 builds platforms another way"
#endif

namespace seqpar::detail {

namespace s4u = simgrid::s4u;
using hosts = std::vector<s4u::Host*>;
using netpoint = simgrid::kernel::routing::NetPoint;

/// A link of one direction. A connection's latency is that of its first link; its last one has none.
[[nodiscard]] inline s4u::Link* add_link(s4u::NetZone* zone, const std::string& name, double bandwidth,
                                         double latency) {
    return zone->create_link(name, bandwidth)->set_latency(latency)->seal();
}

inline void add_route(s4u::NetZone* zone, netpoint* from, netpoint* to, const std::vector<const s4u::Link*>& links) {
    zone->add_route(from, to, nullptr, nullptr, {links.begin(), links.end()}, false);
}

/// A host for each of the ranks from `first` on. It does one flop in a second: to execute t flops takes t seconds.
[[nodiscard]] inline hosts add_hosts(s4u::NetZone* zone, int first, int count) {
    hosts made;
    for (int rank = first; rank < first + count; ++rank)
        made.push_back(zone->create_host("rank" + std::to_string(rank), 1.0)->seal());
    return made;
}

/// What each rank of a node sends into the node, and what it receives of it.
struct inside_links {
    std::vector<const s4u::Link*> sent{}, received{};

    inside_links(s4u::NetZone* zone, const plan::connection& inside, const hosts& ranks) {
        for (const s4u::Host* rank : ranks) {
            sent.push_back(add_link(zone, rank->get_name() + ".sent", inside.bandwidth, inside.latency));
            received.push_back(add_link(zone, rank->get_name() + ".received", inside.bandwidth, 0));
        }
    }
};

/// The ranks of the one node of a machine: a star.
[[nodiscard]] inline hosts build_only_node(s4u::NetZone* zone, const plan::machine& m, int count) {
    hosts ranks = add_hosts(zone, 0, count);
    const inside_links inside(zone, m.inside, ranks);
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        add_route(zone, ranks[i]->get_netpoint(), nullptr, {inside.sent[i]});
        add_route(zone, nullptr, ranks[i]->get_netpoint(), {inside.received[i]});
    }
    return ranks;
}

/// The ranks of one node of several: a route for each pair of them, and one for each by its port to the router and back.
/// The links are in the zone of the cables: for each new link SimGrid looks for its name in every zone, which takes long where
/// zones have links.
[[nodiscard]] inline hosts build_node(s4u::NetZone* zone, s4u::NetZone* cables, netpoint* router,
                                      const plan::machine& m, int first, int count) {
    hosts ranks = add_hosts(zone, first, count);
    const inside_links inside(cables, m.inside, ranks);
    const auto sharing = static_cast<std::size_t>(m.ranks_per_node / m.ports);
    const s4u::Link *out = nullptr, *in = nullptr;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        netpoint* const here = ranks[i]->get_netpoint();
        for (std::size_t j = 0; j < ranks.size(); ++j)
            if (i != j) add_route(zone, here, ranks[j]->get_netpoint(), {inside.sent[i], inside.received[j]});
        if (i % sharing == 0) {
            out = add_link(cables, ranks[i]->get_name() + ".out", m.port.bandwidth, m.port.latency);
            in = add_link(cables, ranks[i]->get_name() + ".in", m.port.bandwidth, 0);
        }
        add_route(zone, here, router, {out});
        add_route(zone, router, here, {in});
    }
    return ranks;
}

} // namespace seqpar::detail
