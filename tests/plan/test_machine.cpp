/// What a machine has of nodes and ranks, and which machines are refused, with which words.
#include <support/catch.hpp>
#include <support/refused.hpp>

#include <seqpar/plan/machine.hpp>

#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace seqpar;
using plan::network_shape;
using testing::refused;

namespace {

plan::machine machine(network_shape shape, std::vector<int> extents) {
    return {.name = "mine",
            .ranks_per_node = 12,
            .inside = {1e-6, 1e9},
            .ports = 4,
            .port = {0, 1e8},
            .shape = shape,
            .extents = std::move(extents),
            .cable = {1e-7, 1e8}};
}

std::string refused_nodes(const plan::machine& m) {
    return refused([&] { static_cast<void>(m.nodes()); });
}
std::string refused_nodes(network_shape shape, std::vector<int> extents) {
    return refused_nodes(machine(shape, std::move(extents)));
}

} // namespace

TEST_CASE("nodes and ranks are the product of the extents") {
    CHECK(machine(network_shape::none, {}).nodes() == 1);
    CHECK(machine(network_shape::none, {}).ranks() == 12);
    CHECK(machine(network_shape::one_switch, {5}).nodes() == 5);
    CHECK(machine(network_shape::fat_tree, {4, 3, 1, 2}).nodes() == 12); // up counts nothing
    CHECK(machine(network_shape::torus, {4, 3, 2}).nodes() == 24);
    CHECK(machine(network_shape::dragonfly, {2, 3, 5, 7}).nodes() == 210);
    CHECK(machine(network_shape::dragonfly, {2, 3, 5, 7}).ranks() == 2520);
}

TEST_CASE("extents that do not fit the shape are refused") {
    CHECK(refused_nodes(network_shape::none, {1}) ==
          "machine 'mine': extents is {1}, allowed are no extents for shape none, which is one node");
    CHECK(refused_nodes(network_shape::one_switch, {}) ==
          "machine 'mine': extents is {}, allowed is {nodes} for a one_switch");
    CHECK(refused_nodes(network_shape::one_switch, {2, 3}) ==
          "machine 'mine': extents is {2, 3}, allowed is {nodes} for a one_switch");
    for (const std::vector<int>& odd : {std::vector<int>{}, {4}, {4, 4, 1}})
        CHECK(
            refused_nodes(network_shape::fat_tree, odd).find("{down_1, down_2, ..., up_1, up_2, ...} for a fat_tree") !=
            std::string::npos);
    CHECK(refused_nodes(network_shape::torus, {}) ==
          "machine 'mine': extents is {}, allowed is {x, y, ...}, one extent or more, for a torus");
    for (const std::vector<int>& wrong : {std::vector<int>{2, 2, 2}, {2, 2, 2, 2, 2}})
        CHECK(
            refused_nodes(network_shape::dragonfly, wrong).find("{groups, chassis, routers, nodes} for a dragonfly") !=
            std::string::npos);
    CHECK(refused_nodes(network_shape::dragonfly, {4, 2, 3, 2}) ==
          "machine 'mine': extents is {4, 2, 3, 2}, allowed are at most as many groups as routers of a chassis: the "
          "nearest "
          "is 3 groups");
    CHECK(refused_nodes(network_shape::dragonfly, {3, 2, 3, 2}).empty());
    CHECK(refused_nodes(network_shape::torus, {3, 0}) ==
          "machine 'mine': extents is {3, 0}, allowed are extents of 1 and more");
    CHECK(refused_nodes(network_shape::fat_tree, {3, -1}) ==
          "machine 'mine': extents is {3, -1}, allowed are extents of 1 and more"); // of up, too
}

TEST_CASE("more ranks than an int holds are refused") {
    CHECK(refused_nodes(network_shape::torus, {1 << 15, 1 << 14}).find("allowed is 2147483647 and less") !=
          std::string::npos); // 2^29 nodes, 12 * 2^29 ranks
    CHECK(refused_nodes(network_shape::torus, {1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30}).find("ranks") !=
          std::string::npos); // 64 bits would hold 2^150 as 0
    CHECK(machine(network_shape::torus, {1 << 14, 1 << 13}).ranks() == 12 << 27);
}

TEST_CASE("ports that do not share a node's ranks evenly are refused, with the nearest that do") {
    auto m = machine(network_shape::one_switch, {2});
    for (const int ports : {1, 2, 3, 4, 6, 12}) {
        m.ports = ports;
        CHECK(refused_nodes(m).empty());
    }
    for (const auto& [ports, nearest] : {std::pair{0, "1"}, {-3, "1"}, {7, "6"}, {8, "6"}, {10, "12"}, {13, "12"}}) {
        m.ports = ports;
        CHECK(refused_nodes(m) == "machine 'mine': ports is " + std::to_string(ports) +
                                      ", allowed are the divisors of ranks_per_node, which is 12; the nearest is " +
                                      nearest);
    }
    m = machine(network_shape::none, {});
    m.ports = 7; // into no network
    CHECK(refused_nodes(m).empty());
    m.ranks_per_node = 0;
    CHECK(refused_nodes(m) == "machine 'mine': ranks_per_node is 0, allowed are 1 and more");
}

TEST_CASE("latencies and bandwidths that cannot be are refused by name") {
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();
    const std::pair<std::string, plan::connection plan::machine::*> fields[]{
        {"inside", &plan::machine::inside}, {"port", &plan::machine::port}, {"cable", &plan::machine::cable}};
    for (const auto& [name, field] : fields) {
        for (const double latency : {-1e-9, nan, infinite}) {
            auto m = machine(network_shape::torus, {2});
            (m.*field).latency = latency;
            CHECK(refused_nodes(m) == detail::concat("machine 'mine': ", name, ".latency is ", latency,
                                                     ", allowed are 0 seconds and more"));
        }
        for (const double bandwidth : {0.0, -1.0, nan, infinite}) {
            auto m = machine(network_shape::torus, {2});
            (m.*field).bandwidth = bandwidth;
            CHECK(refused_nodes(m) == detail::concat("machine 'mine': ", name, ".bandwidth is ", bandwidth,
                                                     ", allowed is what is above 0 bytes a second"));
        }
    }
    auto alone = machine(network_shape::none, {});
    alone.port = alone.cable = {-1, 0};
    CHECK(refused_nodes(alone).empty());
}

TEST_CASE("a run that the machine is too small for is refused, with the largest that fits") {
    const auto m = machine(network_shape::torus, {4, 3});
    CHECK(refused([&] { plan::check_run(m, 145); }) == "a run of 145 ranks on machine 'mine', which has 144 (nodes: "
                                                       "12, ranks_per_node: 12): allowed are 1 to 144; the "
                                                       "nearest is 144");
    CHECK(refused([&] { plan::check_run(m, 0); }).find("allowed are 1 to 144; the nearest is 1") != std::string::npos);
    CHECK(refused([&] { plan::check_run(m, 1); }).empty());
    CHECK(refused([&] { plan::check_run(m, 144); }).empty());
}
