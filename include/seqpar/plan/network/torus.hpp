#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::plan {

/// The cables of a torus and the way of a message through them: dimension by dimension, the first one first, in the direction
/// that is shorter. Where both are as long, a message goes up, but from the coordinate extent / 2 to 0, where it goes down.
/// Each cable, one a node and dimension, joins a coordinate with the next and is two links, up and down; an extent of 2 has
/// two cables between its two nodes, of which the second stays idle, and an extent of 1 has one that does.
/// This is the way that SimGrid's torus zones take.
class torus_cables {
public:
    /// Extents of 1 and more.
    explicit torus_cables(std::span<const int> extents) : extents_(extents.begin(), extents.end()) {
        for (const int extent : extents) nodes_ *= static_cast<std::size_t>(extent);
    }

    [[nodiscard]] std::size_t links() const noexcept { return 2 * nodes_ * extents_.size(); }

    /// Calls visit(link) for each link from one node to another, in the order of the way.
    template <class Visit>
    void route(int from, int to, Visit&& visit) const {
        int node = from;
        int stride = 1;
        for (std::size_t dimension = 0; dimension < extents_.size(); ++dimension) {
            const int extent = extents_[dimension];
            const int start = from / stride % extent, target = to / stride % extent;
            const bool up = goes_up(start, target, extent);
            for (int at = start; at != target;) {
                const int next = up ? (at + 1 == extent ? 0 : at + 1) : (at == 0 ? extent - 1 : at - 1);
                const int next_node = node + (next - at) * stride;
                visit(link(up ? node : next_node, dimension) + (up ? 0 : 1));
                at = next;
                node = next_node;
            }
            stride *= extent;
        }
    }

private:
    [[nodiscard]] static bool goes_up(int start, int target, int extent) noexcept {
        const int half = extent / 2;
        return target > start ? target - start <= half : start > half && start + half - extent >= target;
    }
    [[nodiscard]] std::size_t link(int node, std::size_t dimension) const noexcept {
        return 2 * (static_cast<std::size_t>(node) * extents_.size() + dimension);
    }

    std::vector<int> extents_;
    std::size_t nodes_ = 1;
};

} // namespace seqpar::plan
