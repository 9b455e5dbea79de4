/// The links that messages take and what they make of a pattern, against cases that are counted by hand.
#include <support/catch.hpp>
#include <support/refused.hpp>

#include <seqpar/plan/network.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace seqpar;
using plan::network;
using plan::network_shape;
using plan::split_timing;
using plan::timing;
using testing::refused;

namespace {

constexpr double inside = 400, port = 50, cable = 20; // bytes a second

plan::machine machine(network_shape shape, std::vector<int> extents, int ranks_per_node = 1, int ports = 1) {
    return {.name = "m",
            .ranks_per_node = ranks_per_node,
            .inside = {1, inside},
            .ports = ports,
            .port = {10, port},
            .shape = shape,
            .extents = std::move(extents),
            .cable = {100, cable}};
}

std::vector<std::size_t> way(const network& net, int from, int to) {
    std::vector<std::size_t> links;
    net.route(from, to, [&](std::size_t l) { links.push_back(l); });
    return links;
}
std::size_t shared(const network& net, std::pair<int, int> a, std::pair<int, int> b) {
    const auto x = way(net, a.first, a.second), y = way(net, b.first, b.second);
    return static_cast<std::size_t>(
        std::count_if(x.begin(), x.end(), [&](std::size_t l) { return std::find(y.begin(), y.end(), l) != y.end(); }));
}
std::vector<double> bandwidths(const network& net, int from, int to) {
    std::vector<double> found;
    net.route(from, to, [&](std::size_t l) { found.push_back(net.bandwidth(l)); });
    return found;
}
std::vector<int> all_shifts(int group) {
    std::vector<int> shifts(static_cast<std::size_t>(group - 1));
    std::iota(shifts.begin(), shifts.end(), 1);
    return shifts;
}

struct taken {
    timing together;
    double unaligned = 0;
};

/// By the definition: every message along its way, one by one.
taken counted(const network& net, const plan::pattern& p) {
    std::vector<int> load(net.links());
    std::vector<std::vector<double>> latencies(net.links()); // of the messages on each link
    timing found;
    for (int base = 0; base < net.ranks(); base += p.group * p.stride)
        for (int i = 0; i < p.group; ++i)
            for (int r = 0; r < p.stride; ++r)
                for (const int s : p.shifts) {
                    const int from = base + i * p.stride + r;
                    const int to = base + ((i + s) % p.group + p.group) % p.group * p.stride + r;
                    if (from == to) continue;
                    found.latency = std::max(found.latency, net.latency(from, to));
                    net.route(from, to, [&](std::size_t l) {
                        ++load[l];
                        latencies[l].push_back(net.latency(from, to));
                        found.alone = std::max(found.alone, 1 / net.bandwidth(l));
                    });
                }
    double unaligned = 0;
    for (std::size_t l = 0; l < load.size(); ++l) {
        found.seconds_per_byte = std::max(found.seconds_per_byte, load[l] / net.bandwidth(l));
        double shares = 0; // of the link, while all are on it
        for (const double of : latencies[l]) shares += 1 / of;
        for (const double of : latencies[l]) {
            const double share = net.bandwidth(l) / of / shares;
            // no other is quicker than its narrowest link
            const double left = net.bandwidth(l) - (load[l] - 1) / found.alone;
            unaligned = std::max(unaligned, 1 / std::min(std::max(share, left), 1 / found.alone));
        }
    }
    return {found, unaligned};
}

} // namespace

TEST_CASE("a message within a node shares what its sender sends and what its receiver receives") {
    const network net(machine(network_shape::none, {}, 4), 4);
    CHECK(bandwidths(net, 0, 1) == std::vector{inside, inside});
    CHECK(net.latency(0, 1) == 1);
    CHECK(shared(net, {0, 1}, {0, 2}) == 1);
    CHECK(shared(net, {0, 1}, {2, 1}) == 1);
    CHECK(shared(net, {0, 1}, {1, 0}) == 0); // both ways at once
    CHECK(way(net, 2, 2).empty());
    CHECK(net.latency(2, 2) == 0);
}

TEST_CASE("a message between nodes takes its ranks' ports and the cables between") {
    const network net(machine(network_shape::one_switch, {3}, 4, 2), 12); // ranks 0, 1 share a port, so do 2, 3
    CHECK(bandwidths(net, 0, 4) == std::vector{port, cable, cable, port});
    CHECK(net.latency(0, 4) == 210);
    CHECK(net.latency(0, 3) == 1);
    CHECK(shared(net, {0, 4}, {1, 9}) == 2); // port and cable up
    CHECK(shared(net, {0, 4}, {2, 9}) == 1); // the node's cable, another port
    CHECK(shared(net, {0, 4}, {0, 1}) == 0); // what stays inside is apart
    CHECK(shared(net, {0, 5}, {8, 4}) == 2);
    CHECK(shared(net, {0, 4}, {4, 0}) == 0);
}

TEST_CASE("a fat tree is climbed no higher than needed, by the parent that the target picks") {
    const network net(machine(network_shape::fat_tree, {4, 4, 1, 2}), 16); // two switches above four
    CHECK(way(net, 0, 3).size() == 2 + 2);
    CHECK(way(net, 0, 4).size() == 2 + 4);
    CHECK(net.latency(0, 4) == 410);
    CHECK(shared(net, {0, 4}, {1, 5}) == 0);  // targets of either parity: other parents
    CHECK(shared(net, {0, 4}, {1, 6}) == 2);  // up to the parent of even targets, and down from it
    CHECK(shared(net, {0, 4}, {1, 8}) == 1);  // up only
    CHECK(shared(net, {0, 4}, {12, 6}) == 1); // down only
    const network three(machine(network_shape::fat_tree, {2, 2, 2, 1, 2, 2}), 8);
    CHECK(way(three, 0, 2).size() == 2 + 4);
    CHECK(way(three, 0, 7).size() == 2 + 6);
    CHECK(shared(three, {0, 4}, {1, 6}) == 1); // the same parent at the second level, another at the third
}

TEST_CASE("a torus is crossed dimension by dimension, the shorter way round") {
    const network ring(machine(network_shape::torus, {5}), 5);
    CHECK(way(ring, 0, 2).size() == 2 + 2);
    CHECK(way(ring, 0, 3).size() == 2 + 2);
    CHECK(way(ring, 4, 0).size() == 2 + 1);
    CHECK(shared(ring, {0, 3}, {4, 3}) == 2);                  // 0 - 4 - 3: cable and port
    CHECK(shared(ring, {0, 3}, {3, 4}) == 0);                  // the other direction of a cable
    const network even(machine(network_shape::torus, {4}), 4); // as long both ways: up, but for 2 to 0
    CHECK(shared(even, {0, 2}, {0, 1}) == 2);
    CHECK(shared(even, {1, 3}, {1, 2}) == 2);
    CHECK(shared(even, {3, 1}, {3, 0}) == 2);
    CHECK(shared(even, {2, 0}, {2, 1}) == 2);
    const network flat(machine(network_shape::torus, {4, 3}), 12);
    CHECK(way(flat, 0, 5).size() == 2 + 2);
    CHECK(shared(flat, {0, 5}, {0, 1}) == 2);  // x first
    CHECK(shared(flat, {0, 5}, {0, 4}) == 1);  // the port only
    CHECK(shared(flat, {0, 5}, {1, 5}) == 2);  // then y
    CHECK(flat.latency(0, 6) == 10 + 3 * 100); // (0, 0) to (2, 1)
}

TEST_CASE("a dragonfly is crossed by the one cable between two groups") {
    const network net(machine(network_shape::dragonfly, {3, 1, 3, 2}), 18); // router = rank / 2, group = rank / 6
    CHECK(way(net, 0, 1).size() == 2 + 2);
    CHECK(way(net, 0, 2).size() == 2 + 3);
    CHECK(way(net, 2, 6).size() == 2 + 3); // router 1 of group 0 holds the cable to router 0 of group 1
    CHECK(way(net, 0, 8).size() == 2 + 5);
    CHECK(shared(net, {0, 8}, {4, 10}) == 1);
    CHECK(shared(net, {0, 8}, {8, 0}) == 0);
    CHECK(shared(net, {0, 8}, {0, 2}) == 3); // port, node, and the chassis' cable to router 1
    const network several(machine(network_shape::dragonfly, {2, 2, 2, 1}), 8);
    CHECK(way(several, 0, 2).size() == 2 + 3); // another chassis, same router
    CHECK(way(several, 2, 4).size() == 2 + 5); // chassis 1, router 0: to router 1, to chassis 0, across
    CHECK(way(several, 2, 1).size() ==
          2 + 3); // within the group, SimGrid's flaw: to router 1 and on, already at chassis 0
    CHECK(way(several, 3, 7).size() == 2 + 6); // chassis 1, router 1: to chassis 0, across, to router 1, to chassis 1
}

TEST_CASE("every link has a number of its own") {
    const auto distinct = [](const plan::machine& m) {
        const network net(m, m.ranks());
        std::set<std::size_t> seen;
        for (int a = 0; a < m.ranks(); ++a)
            for (int b = 0; b < m.ranks(); ++b)
                for (const std::size_t l : way(net, a, b)) seen.insert(l);
        CHECK(*seen.rbegin() < net.links());
        return seen.size();
    };
    // of ranks, of ports, of cables; twice each, for both directions
    CHECK(distinct(machine(network_shape::none, {}, 3)) == 2 * 3);
    CHECK(distinct(machine(network_shape::one_switch, {3}, 4, 2)) == 2 * (12 + 6 + 3));
    CHECK(distinct(machine(network_shape::fat_tree, {2, 2, 1, 2}, 2, 1)) == 2 * (8 + 4 + 4 + 4));
    CHECK(distinct(machine(network_shape::torus, {2, 3}, 2, 2)) == 2 * (12 + 12 + 3 + 6)); // x has second cables, idle
    CHECK(distinct(machine(network_shape::dragonfly, {2, 2, 2, 1}, 2, 2)) == 2 * (16 + 16 + 8 + 4 + 4 + 1));
}

TEST_CASE("a ring's contention") {
    const network net(machine(network_shape::one_switch, {4}, 4, 2), 16);
    // one of four ranks sends to the next node
    CHECK(net.over({16, 1, {1}}) == timing{210, 1 / cable, 1 / cable});
    // ranks 2 and 3 of a node send out, by one port, and to ranks 0 and 1
    CHECK(net.over({16, 1, {2}}) == timing{210, 2 / cable, 1 / cable});
    CHECK(net.over({16, 1, {4}}) == timing{210, 4 / cable, 1 / cable});
    // both ways: its first rank and its last one send out of a node
    CHECK(net.over({16, 1, {1, -1}}) == timing{210, 2 / cable, 1 / cable});
    CHECK(net.over({16, 1, {1, 1}}) == timing{210, 2 / cable, 1 / cable});
    // rings within nodes
    CHECK(net.over({4, 1, {1}}) == timing{1, 1 / inside, 1 / inside});
    // four rings, each of a rank of each node
    CHECK(net.over({4, 4, {1}}) == timing{210, 4 / cable, 1 / cable});
    // blocks of 8 ranks, two of each node: 0 1 | 4 5 would be stride 1; stride 4 joins rank i and i + 4
    CHECK(net.over({2, 4, {1}}) == timing{210, 4 / cable, 1 / cable});
}

TEST_CASE("an all-to-all's contention") {
    const network one(machine(network_shape::none, {}, 8), 8);
    CHECK(one.over({8, 1, all_shifts(8)}) == timing{1, 7 / inside, 1 / inside});
    const network four(machine(network_shape::one_switch, {4}, 2, 2), 8);
    // each of a node's two ranks sends to six others by the node's cable
    CHECK(four.over({8, 1, all_shifts(8)}) == timing{210, 12 / cable, 1 / cable});
    // two levels with a quarter of the bandwidth above: 4 nodes send to 12 others by one cable
    const network thin(machine(network_shape::fat_tree, {4, 4, 1, 1}), 16);
    CHECK(thin.over({16, 1, all_shifts(16)}) == timing{410, 48 / cable, 1 / cable});
    // with all of it, the four parents have 12 each
    const network full(machine(network_shape::fat_tree, {4, 4, 1, 4}), 16);
    CHECK(full.over({16, 1, all_shifts(16)}) == timing{410, 15 / cable, 1 / cable});
    // a torus of 4: up go 0-1, 0-2, 3-1 over 0-1 (3-1 comes by 0), and no more
    const network ring(machine(network_shape::torus, {4}), 4);
    CHECK(ring.over({4, 1, all_shifts(4)}).seconds_per_byte == 3 / cable);
}

TEST_CASE("a slow port is what a message alone waits for") {
    auto m = machine(network_shape::one_switch, {2}, 4, 1);
    m.port.bandwidth = 5;
    const network net(m, 8);
    CHECK(net.over({8, 1, {4}}) == timing{210, 4 / 5.0, 1 / 5.0});
    m.ports = 4;
    CHECK(network(m, 8).over({8, 1, {4}}) == timing{210, 1 / 5.0, 1 / 5.0}); // 4 / 20 is as much
    m.inside.bandwidth = 0.5;
    CHECK(network(m, 8).over({8, 1, {1}}) == timing{210, 1 / 0.5, 1 / 0.5}); // the slower of the two, and the later
    m.inside.latency = 1000;
    CHECK(network(m, 8).over({8, 1, {1}}).latency == 1000);
}

TEST_CASE("patterns without messages take no time") {
    const network net(machine(network_shape::one_switch, {4}), 4);
    CHECK(net.over({4, 1, {}}) == timing{});
    CHECK(net.over({4, 1, {0, 4, -8}}) == timing{});
    CHECK(net.over({1, 4, {1, 2, 3}}) == timing{});
}

TEST_CASE("patterns are counted as each message taken by itself") {
    const plan::machine machines[]{
        machine(network_shape::fat_tree, {3, 4, 1, 2}, 4, 2),
        machine(network_shape::fat_tree, {2, 3, 4, 1, 2, 1}, 2, 2),
        machine(network_shape::torus, {4, 6}, 2, 1),
        machine(network_shape::torus, {3, 4, 2}, 2, 2),
        machine(network_shape::dragonfly, {2, 3, 4, 1}, 2, 2),
        machine(network_shape::one_switch, {10}, 5, 5),
        machine(network_shape::none, {}, 48),
    };
    int cases = 0, more_than_counted = 0;
    for (const auto& m : machines) {
        const network net(m, 48);
        for (const int group : {2, 3, 8, 12, 24, 48})
            for (const int stride : {1, 2, 4, 6}) {
                if (48 % (group * stride) != 0) continue;
                for (const auto& shifts : {std::vector{1},
                                           {-1},
                                           {1, -1},
                                           {group / 2},
                                           {5, 5, 7},
                                           all_shifts(group),
                                           {0, 1, 2 * group + 1}}) {
                    INFO(group << " ranks " << stride << " apart, shape " << static_cast<int>(m.shape));
                    const plan::pattern p{group, stride, shifts};
                    const auto [expected, unaligned] = counted(net, p);
                    const plan::split_timing& split = net.split_over(p);
                    const timing found = split.whole();
                    CHECK(found.latency == expected.latency);
                    CHECK(found.seconds_per_byte == expected.seconds_per_byte);
                    CHECK(found.alone == expected.alone);
                    CHECK(std::max(split.unaligned, split.inside.seconds_per_byte) == Approx(unaligned).epsilon(1e-12));
                    more_than_counted += unaligned > 1.01 * expected.seconds_per_byte;
                    ++cases;
                }
            }
    }
    CHECK(cases == 7 * 7 * 16);
    CHECK(more_than_counted > 20);
}

TEST_CASE("rounds that repeat share a link by the latencies of the ways") {
    // a torus of 8: round a ring of 6 ranks, 5 to 0 and 0 to 5 take the three cables over 6 and 7, which are nobody else's; of
    // a ring of 4 ranks, 3 to 0 goes back over the cables of 3 to 2, 2 to 1 and 1 to 0
    const auto eight = [](int ranks) { return network(machine(network_shape::torus, {8}), ranks); };
    const network six = eight(6), four = eight(4);
    const plan::split_timing& apart = six.split_over({6, 1, {1, -1}});
    CHECK(apart.between == timing{310, 1 / cable, 1 / cable});
    CHECK(apart.unaligned == 1 / cable);
    const plan::split_timing& met = four.split_over({4, 1, {1, -1}});
    CHECK(met.between == timing{310, 2 / cable, 1 / cable});
    CHECK(met.unaligned == Approx(310 * (1 / 310. + 1 / 110.) / cable));
    CHECK(met.seconds(100) == 310 + 100 * 2 / cable);
    CHECK(met.seconds_alone(100) == 310 + 100 / cable);
    // 10 bytes move in 1 of the 311 seconds of a round, 6,200 in 620 of 930
    CHECK(met.seconds_repeated(10) ==
          Approx(310 + 10 * (met.between.seconds_per_byte * 310 / 311 + met.unaligned / 311)));
    CHECK(met.seconds_repeated(6200) == Approx(310 + 6200 * (met.between.seconds_per_byte + 2 * met.unaligned) / 3));
    CHECK(met.seconds_repeated(1e9) == Approx(310 + 1e9 * met.unaligned));
    // without latency all share alike
    auto quick = machine(network_shape::torus, {8});
    quick.port.latency = quick.cable.latency = 0;
    CHECK(network(quick, 4).split_over({4, 1, {1, -1}}).unaligned == 2 / cable);
}

TEST_CASE("a pattern is counted once") {
    const network net(machine(network_shape::torus, {8, 8}), 64);
    const split_timing& first = net.split_over({64, 1, all_shifts(64)});
    const timing before = first.whole();
    CHECK(&net.split_over({64, 1, {1}}) != &first);
    CHECK(&net.split_over({32, 2, all_shifts(32)}) != &first);
    CHECK(&net.split_over({64, 1, all_shifts(64)}) == &first);
    CHECK(first.whole() == before);
}

TEST_CASE("patterns and runs that do not fit are refused") {
    const network net(machine(network_shape::one_switch, {16}), 12);
    CHECK(net.ranks() == 12);
    CHECK(refused([&] {
              static_cast<void>(net.over({8, 1, {1}}));
          }) == "a pattern of groups of 8 ranks, 1 apart, in a run of 12 ranks: allowed are blocks of group * stride "
                "ranks that "
                "divide the run");
    CHECK_FALSE(refused([&] { static_cast<void>(net.over({24, 1, {1}})); }).empty());
    CHECK_FALSE(refused([&] { static_cast<void>(net.over({1 << 20, 1 << 20, {1}})); }).empty());
    for (const auto& p : {plan::pattern{0, 1, {1}}, {1, 0, {1}}, {-12, -1, {1}}})
        CHECK(refused([&] { static_cast<void>(net.over(p)); }).find("allowed are 1 and more for both") !=
              std::string::npos);
    CHECK(refused([] { network(machine(network_shape::one_switch, {16}), 17); }).find("the nearest is 16") !=
          std::string::npos);
    CHECK(refused([] { network(machine(network_shape::one_switch, {}), 1); }).find("{nodes} for a one_switch") !=
          std::string::npos);
}
