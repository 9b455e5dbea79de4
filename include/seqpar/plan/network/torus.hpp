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
    /// Extents of 1 and more. O(nodes * extents) memory, so that a way needs no division.
    explicit torus_cables(std::span<const int> extents) : extents_(extents.begin(), extents.end()) {
        for (const int extent : extents) nodes_ *= static_cast<std::size_t>(extent);
        coordinates_.reserve(nodes_ * extents_.size());
        for (std::size_t node = 0; node < nodes_; ++node) {
            std::size_t left = node;
            for (const int extent : extents_) {
                coordinates_.push_back(left % static_cast<std::size_t>(extent));
                left /= static_cast<std::size_t>(extent);
            }
        }
    }

    [[nodiscard]] std::size_t links() const noexcept { return 2 * nodes_ * extents_.size(); }

    /// Calls visit(link) for each link from one node to another, in the order of the way.
    template <class Visit>
    void route(int from, int to, Visit&& visit) const {
        const std::size_t* const source = coordinates(from);
        const std::size_t* const target = coordinates(to);
        const std::size_t dimensions = extents_.size();
        std::size_t corner = static_cast<std::size_t>(from); // the node at coordinate 0 of the dimension
        std::size_t stride = 1;
        for (std::size_t d = 0; d < dimensions; ++d) {
            const auto extent = static_cast<std::size_t>(extents_[d]);
            std::size_t at = source[d];
            corner -= at * stride;
            const std::size_t first = 2 * (corner * dimensions + d), next = 2 * stride * dimensions; // links
            if (goes_up(at, target[d], extent)) {
                for (; at != target[d]; at = at + 1 == extent ? 0 : at + 1) visit(first + at * next);
            } else {
                while (at != target[d]) {
                    at = (at == 0 ? extent : at) - 1;
                    visit(first + at * next + 1);
                }
            }
            corner += at * stride;
            stride *= extent;
        }
    }

private:
    [[nodiscard]] static bool goes_up(std::size_t start, std::size_t target, std::size_t extent) noexcept {
        const std::size_t half = extent / 2;
        return target > start ? target - start <= half : start > half && start + half >= target + extent;
    }
    [[nodiscard]] const std::size_t* coordinates(int node) const noexcept {
        return coordinates_.data() + static_cast<std::size_t>(node) * extents_.size();
    }

    std::vector<int> extents_;
    std::vector<std::size_t> coordinates_; ///< of each node, for each dimension
    std::size_t nodes_ = 1;
};

} // namespace seqpar::plan
