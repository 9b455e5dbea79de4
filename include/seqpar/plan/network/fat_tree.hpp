#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::plan {

/// The cables of a fat tree and the way of a message through them: up to the lowest switch that is above both nodes, by the
/// parents that the target's number picks (D-mod-k), and down. Each cable is two links, up and down.
///
/// A switch of level l has one number for each level: below l the parent that was picked, from l on the child that the node
/// is in. So the cables of a level are numbered by the part of the tree that holds the node, which its sender decides on the
/// way up, and by the parents picked so far, which its target decides.
/// Source: E. Zahavi, D-Mod-K Routing Providing Non-Blocking Traffic for Shift Permutations on Real Life Fat Trees, 2010.
class fat_tree_cables {
public:
    /// Extents as of network_shape::fat_tree, of 1 and more. O(nodes * levels) memory, so that a way needs no division.
    explicit fat_tree_cables(std::span<const int> extents) : levels_(extents.size() / 2) {
        std::size_t nodes = 1;
        for (const int down : extents.first(levels_)) nodes *= static_cast<std::size_t>(down);
        steps_.resize(nodes * levels_);
        std::size_t part = 1, ways = 1; // nodes of a part of the tree, parents to pick on the way up to it
        for (std::size_t l = 0; l < levels_; ++l) {
            const auto down = static_cast<std::size_t>(extents[l]), up = static_cast<std::size_t>(extents[levels_ + l]);
            for (std::size_t node = 0; node < nodes; ++node) {
                const std::size_t picked = l == 0 ? 0 : steps_[node * levels_ + l - 1].pick / 2;
                steps_[node * levels_ + l] = {links_ + 2 * (node / part) * ways * up,
                                              2 * (picked + ways * (node / ways % up))};
            }
            links_ += 2 * (nodes / part) * ways * up;
            part *= down;
            ways *= up;
        }
    }

    [[nodiscard]] std::size_t links() const noexcept { return links_; }

    /// Calls visit(link) for each link from one node to another, in the order of the way.
    template <class Visit>
    void route(int from, int to, Visit&& visit) const {
        const step* const source = steps_.data() + static_cast<std::size_t>(from) * levels_;
        const step* const target = steps_.data() + static_cast<std::size_t>(to) * levels_;
        std::size_t top = 0;
        for (; top < levels_ && source[top].part != target[top].part; ++top) visit(source[top].part + target[top].pick);
        while (top-- > 0) visit(target[top].part + target[top].pick + 1);
    }

private:
    /// What a node adds to the number of a cable of a level: by the part of the tree that it is in, and by the parents picked
    /// on the way to it.
    struct step {
        std::size_t part, pick;
    };

    std::size_t levels_;
    std::vector<step> steps_; ///< of each node, for each level
    std::size_t links_ = 0;
};

} // namespace seqpar::plan
