/// The simulator's platform and the closed form are one network: every message takes the same links in the same order.
#include <support/catch.hpp>
#include <support/refused.hpp>

#include <seqpar/comm/simgrid/platform.hpp>
#include <seqpar/plan/network.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <string>
#include <utility>
#include <vector>

using namespace seqpar;
using plan::network_shape;

namespace {

plan::machine machine(network_shape shape, std::vector<int> extents, int ranks_per_node = 1, int ports = 1) {
    return {.name = "m",
            .ranks_per_node = ranks_per_node,
            .inside = {1e-6, 450e9},
            .ports = ports,
            .port = {3e-6, 50e9},
            .shape = shape,
            .extents = std::move(extents),
            .cable = {0.25e-6, 40e9}};
}

/// There is one simulation in a process, so each is one of its own. Gives what f says against it; empty is nothing.
template <class F>
std::string in_a_process(const F& f) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    std::fflush(nullptr);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::string said;
        try {
            said = f();
        } catch (const std::exception& e) {
            said = std::string("threw ") + e.what();
        }
        said += '.'; // that it came to its end
        const bool written = ::write(ends[1], said.data(), said.size()) == static_cast<ssize_t>(said.size());
        std::_Exit(written ? 0 : 1);
    }
    ::close(ends[1]);
    std::string said;
    char buffer[512];
    for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
        said.append(buffer, static_cast<std::size_t>(n));
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (said.empty() || said.back() != '.') return "the process ended early";
    said.pop_back();
    return said;
}

/// Messages share links as fluids do, and nothing else slows them down.
void make_engine() {
    static std::string arguments[]{"test", "--log=xbt_cfg.thres:warning", "--cfg=network/model:CM02",
                                   "--cfg=network/crosstraffic:0", "--cfg=network/TCP-gamma:0"};
    static std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    int count = static_cast<int>(pointers.size());
    pointers.push_back(nullptr);
    static simgrid::s4u::Engine engine(&count, pointers.data());
}

/// Where the two differ first, over all pairs of ranks.
std::string difference(const plan::machine& m, int ranks) {
    make_engine();
    const auto hosts = build_platform(m, ranks);
    const plan::network net(m, ranks);
    if (static_cast<int>(hosts.size()) != ranks) return "another number of hosts";
    std::map<const simgrid::s4u::Link*, std::size_t> number;
    std::map<std::size_t, const simgrid::s4u::Link*> link;
    for (int a = 0; a < ranks; ++a) {
        for (int b = 0; b < ranks; ++b) {
            if (a == b) continue;
            const std::string at = detail::concat("from ", a, " to ", b, ": ");
            std::vector<simgrid::s4u::Link*> theirs;
            double latency = 0;
            hosts[static_cast<std::size_t>(a)]->route_to(hosts[static_cast<std::size_t>(b)], theirs, &latency);
            std::vector<std::size_t> ours;
            net.route(a, b, [&](std::size_t l) { ours.push_back(l); });
            if (theirs.size() != ours.size()) return detail::concat(at, theirs.size(), " links and not ", ours.size());
            if (std::abs(latency - net.latency(a, b)) > 1e-12) return detail::concat(at, "latency ", latency);
            for (std::size_t i = 0; i < ours.size(); ++i) {
                if (ours[i] >= net.links()) return detail::concat(at, "link ", ours[i], " of ", net.links());
                if (theirs[i]->get_bandwidth() != net.bandwidth(ours[i]))
                    return at + "bandwidth of " + theirs[i]->get_name();
                // one link of theirs is one of ours, whatever the messages
                if (number.try_emplace(theirs[i], ours[i]).first->second != ours[i]) return at + theirs[i]->get_name();
                if (link.try_emplace(ours[i], theirs[i]).first->second != theirs[i]) return at + theirs[i]->get_name();
            }
        }
    }
    return {};
}

std::string difference_in_a_process(const plan::machine& m, int ranks = 0) {
    return in_a_process([&] { return difference(m, ranks == 0 ? m.ranks() : ranks); });
}

/// Seconds until all messages of a pattern have arrived that were sent at once.
std::string simulated(const plan::machine& m, int ranks, const plan::pattern& sent, std::uint64_t bytes) {
    namespace s4u = simgrid::s4u;
    make_engine();
    const auto hosts = build_platform(m, ranks);
    for (int from = 0; from < ranks; ++from)
        for (const int shift : sent.shifts) {
            const int member = from / sent.stride % sent.group;
            const int to = from + ((member + shift + sent.group) % sent.group - member) * sent.stride;
            auto* const box = s4u::Mailbox::by_name(detail::concat(from, ">", to));
            s4u::Actor::create("send", hosts[static_cast<std::size_t>(from)], [box, bytes] {
                static char payload;
                box->put(&payload, bytes);
            });
            s4u::Actor::create("receive", hosts[static_cast<std::size_t>(to)], [box] { box->get<char>(); });
        }
    s4u::Engine::get_instance()->run();
    return std::to_string(s4u::Engine::get_clock());
}

} // namespace

TEST_CASE("messages take the same links in the simulator and in the closed form: one node, one switch") {
    CHECK(difference_in_a_process(machine(network_shape::none, {}, 1)).empty());
    CHECK(difference_in_a_process(machine(network_shape::none, {}, 7)).empty());
    CHECK(difference_in_a_process(machine(network_shape::none, {}, 7), 5).empty());
    CHECK(difference_in_a_process(machine(network_shape::one_switch, {9})).empty());
    CHECK(difference_in_a_process(machine(network_shape::one_switch, {3}, 6, 2)).empty());
    CHECK(difference_in_a_process(machine(network_shape::one_switch, {1}, 4, 4)).empty());
}

TEST_CASE("messages take the same links in the simulator and in the closed form: fat trees") {
    const std::vector<int> trees[]{
        {4, 4, 1, 4},       {6, 4, 1, 2}, // a third of the bandwidth above
        {4, 3, 2, 2},                     // two cables a node
        {2, 3, 4, 1, 2, 3}, {4, 2, 3, 1, 1, 2}, {3, 1, 4, 1, 5, 2}, {2, 2, 2, 2, 1, 2, 2, 2},
    };
    for (const auto& extents : trees) {
        INFO("extents from " << extents[0] << ", " << extents[1] << "; " << extents.size());
        CHECK(difference_in_a_process(machine(network_shape::fat_tree, extents)) == "");
    }
    CHECK(difference_in_a_process(machine(network_shape::fat_tree, {4, 3, 1, 2}, 4, 4)) == "");
    CHECK(difference_in_a_process(machine(network_shape::fat_tree, {4, 3, 1, 2}, 4, 2)) == "");
    CHECK(difference_in_a_process(machine(network_shape::fat_tree, {4, 3, 1, 2}, 4, 1)) == "");
}

TEST_CASE("messages take the same links in the simulator and in the closed form: tori") {
    for (int extent = 1; extent <= 9; ++extent) {
        INFO("a ring of " << extent);
        CHECK(difference_in_a_process(machine(network_shape::torus, {extent})) == "");
    }
    for (const auto& extents : {std::vector<int>{4, 5}, {5, 4}, {2, 6, 3}, {4, 4, 4}, {3, 1, 7}, {2, 3, 2, 3, 2}}) {
        INFO("extents from " << extents[0] << ", " << extents[1] << "; " << extents.size());
        CHECK(difference_in_a_process(machine(network_shape::torus, extents)) == "");
    }
    CHECK(difference_in_a_process(machine(network_shape::torus, {4, 3}, 4, 2)) == "");
}

TEST_CASE("messages take the same links in the simulator and in the closed form: dragonflies") {
    for (const auto& extents :
         {std::vector<int>{1, 1, 1, 3}, {1, 2, 3, 1}, {3, 1, 3, 2}, {3, 2, 3, 2}, {2, 3, 4, 2}, {4, 3, 5, 1}}) {
        INFO("extents " << extents[0] << ", " << extents[1] << ", " << extents[2] << ", " << extents[3]);
        CHECK(difference_in_a_process(machine(network_shape::dragonfly, extents)) == "");
    }
    CHECK(difference_in_a_process(machine(network_shape::dragonfly, {2, 2, 2, 2}, 4, 2)) == "");
}

TEST_CASE("a run may leave nodes, ports and ranks of a node idle") {
    for (const int ranks : {1, 3, 4, 5, 13, 31}) {
        INFO(ranks << " ranks");
        CHECK(difference_in_a_process(machine(network_shape::fat_tree, {4, 3, 1, 2}, 4, 2), ranks) == "");
        CHECK(difference_in_a_process(machine(network_shape::torus, {3, 4}, 4, 2), ranks) == "");
        CHECK(difference_in_a_process(machine(network_shape::dragonfly, {2, 2, 3, 2}, 4, 2), ranks) == "");
    }
}

TEST_CASE("the comparison of the two networks notices another one") {
    // the tree's routing depends on what is above: one parent instead of two
    const auto said = in_a_process([] {
        make_engine();
        const auto m = machine(network_shape::fat_tree, {4, 3, 1, 2}),
                   other = machine(network_shape::fat_tree, {4, 3, 1, 1});
        const auto hosts = build_platform(m, 12);
        const plan::network net(other, 12);
        std::map<std::size_t, const simgrid::s4u::Link*> link;
        for (std::size_t to = 4; to < 12; ++to) {
            std::vector<simgrid::s4u::Link*> theirs;
            hosts[0]->route_to(hosts[to], theirs, nullptr);
            std::size_t i = 0;
            bool same = true;
            net.route(0, static_cast<int>(to), [&](std::size_t l) {
                same = same && link.try_emplace(l, theirs[i]).first->second == theirs[i];
                ++i;
            });
            if (!same) return std::string("other");
        }
        return std::string("same");
    });
    CHECK(said == "other");
}

TEST_CASE("a round takes as long in the simulator as in the closed form") {
    struct round {
        plan::pattern sent;
        double later; // at most, as a part of the time
    };
    // SimGrid gives a message of higher latency less of a link: one that meets others on two links may come later.
    const round rounds[]{{{16, 1, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}, 1e-3},
                         {{8, 4, {1, 2, 3, 4, 5, 6, 7}}, 1e-3},
                         {{32, 1, {1}}, 1e-3},
                         {{32, 1, {5}}, 1e-3},
                         {{32, 1, {5, -7}}, 0.05}};
    for (const auto& m :
         {machine(network_shape::fat_tree, {4, 3, 1, 2}, 4, 2), machine(network_shape::torus, {3, 4}, 4, 2),
          machine(network_shape::dragonfly, {2, 2, 3, 2}, 4, 2), machine(network_shape::none, {}, 32)})
        for (const round& r : rounds) {
            INFO("shape " << static_cast<int>(m.shape) << ", groups of " << r.sent.group);
            constexpr std::uint64_t bytes = 4'000'000'000; // so many that latency is nothing to them
            const auto timing = plan::network(m, 32).over(r.sent);
            const double expected = timing.latency + bytes * timing.seconds_per_byte;
            const double seconds = std::stod(in_a_process([&] { return simulated(m, 32, r.sent, bytes); }));
            CHECK(seconds > expected * (1 - 1e-3));
            CHECK(seconds < expected * (1 + r.later));
        }
}

TEST_CASE("a host executes one flop in a second") {
    CHECK(in_a_process([] {
              make_engine();
              double end = 0;
              auto* const host = build_platform(machine(network_shape::torus, {3}, 2, 1), 5)[4];
              simgrid::s4u::Actor::create("a", host, [&] {
                  simgrid::s4u::this_actor::execute(2.5);
                  end = simgrid::s4u::Engine::get_clock();
              });
              simgrid::s4u::Engine::get_instance()->run();
              return std::to_string(end);
          }) == "2.500000");
}

TEST_CASE("more ranks than the machine has are refused before anything is built") {
    const auto m = machine(network_shape::torus, {3, 2}, 4, 2);
    CHECK(testing::refused([&] { static_cast<void>(build_platform(m, 25)); }).find("the nearest is 24") !=
          std::string::npos);
}
