#pragma once

#include <seqpar/plan/machine.hpp>
#include <seqpar/plan/network/cables.hpp>
#include <seqpar/plan/network/pattern.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>
#include <variant>
#include <vector>

namespace seqpar::plan {

/// The network of a machine in closed form, for a run of so many ranks: the links that a message shares with others, and what
/// they make of a pattern of messages. comm/simgrid/platform.hpp builds the same for the simulator.
///
/// A link has one direction. They are numbered: of each rank what it sends and receives within its node, of each port what
/// leaves and enters the node, then the cables.
class network {
public:
    /// @throws refusal if the machine has a field that cannot be, or fewer ranks
    network(const machine& m, int ranks)
        : inside_((check_run(m, ranks), m.inside)), port_(m.port), cable_(m.cable), cables_(cables_of(m)) {
        const int sharing = m.ranks_per_node / m.ports;
        for (int rank = 0; rank < ranks; ++rank) {
            const int node = rank / m.ranks_per_node;
            node_of_.push_back(node);
            port_of_.push_back(static_cast<std::size_t>(node * m.ports + rank % m.ranks_per_node / sharing));
        }
        nodes_ = node_of_.back() + 1;
        first_port_ = 2 * node_of_.size();
        first_cable_ = first_port_ + 2 * static_cast<std::size_t>(nodes_) * static_cast<std::size_t>(m.ports);
        links_ = first_cable_ + std::visit([](const auto& c) { return c.links(); }, cables_);
    }

    [[nodiscard]] int ranks() const noexcept { return static_cast<int>(node_of_.size()); }
    [[nodiscard]] std::size_t links() const noexcept { return links_; }
    /// Bytes a second of a link.
    [[nodiscard]] double bandwidth(std::size_t link) const noexcept {
        return link < first_port_ ? inside_.bandwidth : link < first_cable_ ? port_.bandwidth : cable_.bandwidth;
    }

    /// Calls visit(link) for each link on the way from one rank to another, in the order of the way; for none from a rank to
    /// itself.
    template <class Visit>
    void route(int from, int to, Visit&& visit) const {
        if (from == to) return;
        const int source = node(from), target = node(to);
        if (source == target) {
            visit(sent_inside(from));
            visit(received_inside(to));
            return;
        }
        visit(port_out(from));
        std::visit([&](const auto& c) { c.route(source, target, [&](std::size_t l) { visit(first_cable_ + l); }); },
                   cables_);
        visit(port_in(to));
    }

    /// Seconds of a message without bytes.
    [[nodiscard]] double latency(int from, int to) const {
        if (from == to) return 0;
        if (node(from) == node(to)) return inside_.latency;
        int count = -2; // less the ports
        route(from, to, [&](std::size_t) { ++count; });
        return between(count);
    }

    /// Counts exactly, once for each pattern: a pattern that was asked for before is looked up. Not thread-safe.
    /// O(messages + pairs of nodes that talk * cables between them + links()).
    /// @throws refusal if the pattern does not fit the run
    [[nodiscard]] timing over(const pattern& p) const { return split_over(p).whole(); }
    [[nodiscard]] const split_timing& split_over(const pattern& p) const {
        if (const auto known = known_.find(p); known != known_.end()) return known->second;
        const std::vector<int> steps = steps_of(p, ranks());
        const split_timing found = std::visit([&](const auto& c) { return count(p, steps, c); }, cables_);
        return known_.emplace(p, found).first->second;
    }

private:
    [[nodiscard]] int node(int rank) const noexcept { return node_of_[static_cast<std::size_t>(rank)]; }
    [[nodiscard]] static std::size_t sent_inside(int rank) noexcept { return 2 * static_cast<std::size_t>(rank); }
    [[nodiscard]] static std::size_t received_inside(int rank) noexcept { return sent_inside(rank) + 1; }
    [[nodiscard]] std::size_t port_out(int rank) const noexcept {
        return first_port_ + 2 * port_of_[static_cast<std::size_t>(rank)];
    }
    [[nodiscard]] std::size_t port_in(int rank) const noexcept { return port_out(rank) + 1; }
    [[nodiscard]] double between(int count) const noexcept { return port_.latency + count * cable_.latency; }

    /// Messages of one node to another share their way but for the ports: cables are counted by pairs of nodes.
    template <class Cables>
    [[nodiscard]] split_timing count(const pattern& p, const std::vector<int>& steps, const Cables& c) const {
        /// Of a link between nodes: its messages' shares, each one over its latency.
        struct share {
            double sum = 0, longest = 0;
            void add(double latency, int messages) noexcept {
                sum += messages / latency;
                longest = std::max(longest, latency);
            }
        };
        struct talk {
            int messages = 0, cables = 0;
        };
        std::vector<int> load(links_); // messages on each link
        std::vector<share> shares(links_);
        std::vector<talk> to_node(static_cast<std::size_t>(nodes_)); // of one node to each other
        std::vector<int> talked_to;
        int longest = 0; // cables
        const int block = p.group * p.stride;
        for (int from = 0; from < ranks(); ++from) {
            const int source = node(from);
            const int member = from % block / p.stride;
            const int base = from - member * p.stride;
            for (const int step : steps) {
                const int other = member + step < p.group ? member + step : member + step - p.group;
                const int to = base + other * p.stride, target = node(to);
                if (target == source) {
                    ++load[sent_inside(from)];
                    ++load[received_inside(to)];
                    continue;
                }
                talk& there = to_node[static_cast<std::size_t>(target)];
                if (there.messages++ == 0) {
                    talked_to.push_back(target);
                    c.route(source, target, [&](std::size_t) { ++there.cables; });
                }
                for (const std::size_t port : {port_out(from), port_in(to)}) {
                    ++load[port];
                    shares[port].add(between(there.cables), 1);
                }
            }
            if (from + 1 < ranks() && node(from + 1) == source) continue;
            for (const int target : talked_to) {
                const talk with = std::exchange(to_node[static_cast<std::size_t>(target)], {});
                c.route(source, target, [&](std::size_t l) {
                    load[first_cable_ + l] += with.messages;
                    shares[first_cable_ + l].add(between(with.cables), with.messages);
                });
                longest = std::max(longest, with.cables);
            }
            talked_to.clear();
        }
        const auto most = [&](std::size_t first, std::size_t last) {
            return first == last ? 0 : *std::max_element(load.data() + first, load.data() + last);
        };
        split_timing found;
        if (const int messages = most(0, first_port_); messages > 0)
            found.inside = {inside_.latency, messages / inside_.bandwidth, 1 / inside_.bandwidth};
        if (longest == 0) return found;
        found.between = {
            between(longest),
            std::max(most(first_port_, first_cable_) / port_.bandwidth, most(first_cable_, links_) / cable_.bandwidth),
            1 / std::min(port_.bandwidth, cable_.bandwidth)};
        found.unaligned = found.between.seconds_per_byte;
        if (found.between.latency == 0) return found; // all share alike
        for (std::size_t l = first_port_; l < links_; ++l) {
            if (load[l] < 2) continue;
            // What the others, by their narrowest links, leave of it, is the longest's too.
            const double left = bandwidth(l) - (load[l] - 1) / found.between.alone;
            const double of_longest = std::max(left, bandwidth(l) / (shares[l].longest * shares[l].sum));
            found.unaligned = std::max(found.unaligned, 1 / of_longest);
        }
        return found;
    }

    connection inside_, port_, cable_;
    cables cables_;
    std::vector<int> node_of_;         ///< of each rank
    std::vector<std::size_t> port_of_; ///< of each rank, among all ports
    int nodes_ = 0;                    ///< that hold ranks of the run
    std::size_t first_port_ = 0, first_cable_ = 0, links_ = 0;
    mutable std::map<pattern, split_timing> known_;
};

} // namespace seqpar::plan
