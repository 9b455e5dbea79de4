#pragma once

#include <seqpar/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace seqpar::plan {

/// What a message of b bytes takes: latency + b / bandwidth seconds.
struct connection {
    double latency = 0;   ///< seconds
    double bandwidth = 0; ///< bytes a second, each way

    friend bool operator==(const connection&, const connection&) = default;
};

/// How fast a rank computes attention of one element type, in flop/s as a kernel reaches them. A forward has
/// 2 (d + d_v) flops for each query row, key and query head that the mask lets see each other, a backward 2 (3 d + 2 d_v).
struct compute_rate {
    double forward = 0, backward = 0;

    friend bool operator==(const compute_rate&, const compute_rate&) = default;
};

/// How nodes are joined. Extents, by shape:
///   none        -: there is one node
///   one_switch  {nodes}: a cable from each node to the switch
///   fat_tree    {down_1, down_2, ..., up_1, up_2, ...} from the nodes upwards: a switch of level l has down_l cables down, and
///               what is below it has up_l cables up; nodes = product of all down. up_l = down_{l-1} keeps all bandwidth
///               (up_1 = 1: a node has one cable)
///   torus       {x, y, z, ...}: a cable to each neighbour; messages go dimension by dimension
///   dragonfly   {groups, chassis, routers, nodes}: routers of a chassis are joined pairwise, routers of equal number in the
///               chassis of a group too, and each group is joined with each other one by one cable. That of group a to
///               group b is at router b of the first chassis, so there are at most as many groups as routers of a chassis
enum class network_shape { none, one_switch, fat_tree, torus, dragonfly };

/// A cluster as the cost model and the simulator see it: equal nodes of equal ranks, and a network that joins the nodes.
/// Rank r of a run is on node r / ranks_per_node.
///
/// A message between ranks of one node takes `inside`; what a rank sends at once shares inside.bandwidth, and so does what it
/// receives. A message between nodes takes port.latency and cable.latency for each cable of its way; it shares the bandwidth
/// of its ranks' ports with what else goes through them, and that of each cable.
struct machine {
    std::string name{};  ///< as --machine takes it
    std::string title{}; ///< a line that says what it is
    int ranks_per_node = 1;
    std::size_t memory = 0; ///< bytes that a rank may use
    compute_rate float32{}, float64{}, bfloat16{};
    double call = 0;     ///< seconds that a call of the kernel costs beside its flops
    connection inside{}; ///< between two ranks of a node
    int ports = 1;       ///< of a node into the network, each shared by ranks_per_node / ports ranks
    connection port{};
    network_shape shape = network_shape::none;
    std::vector<int> extents{};
    connection cable{};

    /// @throws refusal if a field of the network cannot be: extents that do not fit the shape, ports that ranks_per_node
    /// does not divide into, a latency below 0, a bandwidth that is not above 0. Of shape none, port and cable are not looked at.
    [[nodiscard]] int nodes() const;
    /// @throws refusal as nodes()
    [[nodiscard]] int ranks() const { return nodes() * ranks_per_node; }

    friend bool operator==(const machine&, const machine&) = default;

private:
    template <class Value, class... Allowed>
    [[noreturn]] void refuse(const std::string& field, const Value& seen, const Allowed&... allowed) const {
        throw refusal(seqpar::detail::concat("machine '", name, "': ", field, " is ", seen, ", allowed ", allowed...));
    }
    void check(const connection& c, const std::string& field) const;
    void check_ports() const;
    void check_extents() const;
};

/// That a run of so many ranks fits the machine.
/// @throws refusal if not, or as machine::nodes()
inline void check_run(const machine& m, int ranks) {
    if (const int most = m.ranks(); ranks < 1 || ranks > most)
        throw refusal(seqpar::detail::concat("a run of ", ranks, " ranks on machine '", m.name, "', which has ", most,
                                             " (nodes: ", m.nodes(), ", ranks_per_node: ", m.ranks_per_node,
                                             "): allowed are 1 to ", most, "; the nearest is ", ranks < 1 ? 1 : most));
}

inline int machine::nodes() const {
    if (ranks_per_node < 1) refuse("ranks_per_node", ranks_per_node, "are 1 and more");
    check(inside, "inside");
    if (shape != network_shape::none) {
        check_ports();
        check(port, "port");
        check(cable, "cable");
    }
    check_extents();
    auto across = std::span(extents);
    if (shape == network_shape::fat_tree) across = across.first(extents.size() / 2);
    long long count = 1;
    for (const int extent : across) {
        count *= extent;
        if (count * ranks_per_node > std::numeric_limits<int>::max())
            refuse("the number of ranks", "above what an int holds", "is ", std::numeric_limits<int>::max(),
                   " and less");
    }
    return static_cast<int>(count);
}

inline void machine::check(const connection& c, const std::string& field) const {
    if (!(std::isfinite(c.latency) && c.latency >= 0)) refuse(field + ".latency", c.latency, "are 0 seconds and more");
    if (!(std::isfinite(c.bandwidth) && c.bandwidth > 0))
        refuse(field + ".bandwidth", c.bandwidth, "is what is above 0 bytes a second");
}

inline void machine::check_ports() const {
    if (ports >= 1 && ranks_per_node % ports == 0) return;
    int nearest = 1;
    for (int d = 1; d <= ranks_per_node; ++d)
        if (ranks_per_node % d == 0 && std::abs(d - ports) < std::abs(nearest - ports)) nearest = d;
    refuse("ports", ports, "are the divisors of ranks_per_node, which is ", ranks_per_node, "; the nearest is ",
           nearest);
}

inline void machine::check_extents() const {
    std::string seen = "{";
    for (const int extent : extents) seen += seqpar::detail::concat(seen.size() > 1 ? ", " : "", extent);
    seen += "}";
    const std::size_t count = extents.size();
    switch (shape) {
    case network_shape::none:
        if (count != 0) refuse("extents", seen, "are no extents for shape none, which is one node");
        break;
    case network_shape::one_switch:
        if (count != 1) refuse("extents", seen, "is {nodes} for a one_switch");
        break;
    case network_shape::fat_tree:
        if (count == 0 || count % 2 != 0)
            refuse("extents", seen, "is {down_1, down_2, ..., up_1, up_2, ...} for a fat_tree");
        break;
    case network_shape::torus:
        if (count == 0) refuse("extents", seen, "is {x, y, ...}, one extent or more, for a torus");
        break;
    case network_shape::dragonfly:
        if (count != 4) refuse("extents", seen, "is {groups, chassis, routers, nodes} for a dragonfly");
        break;
    }
    if (std::any_of(extents.begin(), extents.end(), [](int extent) { return extent < 1; }))
        refuse("extents", seen, "are extents of 1 and more");
    if (shape == network_shape::dragonfly && extents[0] > extents[2])
        refuse("extents", seen, "are at most as many groups as routers of a chassis: the nearest is ", extents[2],
               " groups");
}

} // namespace seqpar::plan
