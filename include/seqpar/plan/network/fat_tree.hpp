#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::plan {

/// The cables of a fat tree and the way of a message through them: up to the lowest switch that is above both nodes, by the
/// parents that the target's number picks (D-mod-k), and down. Each cable is two links, up and down.
///
/// A switch of level l has one number for each level: below l the parent that was picked, from l on the child that the node
/// is in. So a node's way up to level l, given the parents picked, is one number in mixed radix.
/// Source: E. Zahavi, D-Mod-K Routing Providing Non-Blocking Traffic for Shift Permutations on Real Life Fat Trees, 2010.
class fat_tree_cables {
public:
    /// Extents as of network_shape::fat_tree, of 1 and more.
    explicit fat_tree_cables(std::span<const int> extents) {
        const std::size_t levels = extents.size() / 2;
        std::size_t above = 1; // nodes and switches of the level below, for each of its parents picked
        for (std::size_t l = 0; l < levels; ++l) above *= static_cast<std::size_t>(extents[l]);
        std::size_t ups = 1;
        for (std::size_t l = 0; l < levels; ++l) {
            const auto down = static_cast<std::size_t>(extents[l]), up = static_cast<std::size_t>(extents[levels + l]);
            levels_.push_back({down, up, links_});
            links_ += 2 * above * ups * up;
            above /= down;
            ups *= up;
        }
    }

    [[nodiscard]] std::size_t links() const noexcept { return links_; }

    /// Calls visit(link) for each link from one node to another, in the order of the way.
    template <class Visit>
    void route(int from, int to, Visit&& visit) const {
        const auto source = static_cast<std::size_t>(from);
        climb(0, static_cast<std::size_t>(to), 0, 1, source, static_cast<std::size_t>(to), visit);
    }

private:
    struct level {
        std::size_t down, up, first_link;
    };

    /// One level up and, after what is above it, down again. `picked` is the way up so far, one of `ways`; `source` and
    /// `target` are what is below level l + 1 that holds the one and the other node.
    template <class Visit>
    void climb(std::size_t l, std::size_t left, std::size_t picked, std::size_t ways, std::size_t source,
               std::size_t target, Visit& visit) const {
        if (source == target) return;
        const level& here = levels_[l];
        const std::size_t parent = left % here.up;
        visit(here.first_link + 2 * ((source * ways + picked) * here.up + parent));
        climb(l + 1, left / here.up, picked + parent * ways, ways * here.up, source / here.down, target / here.down,
              visit);
        visit(here.first_link + 2 * ((target * ways + picked) * here.up + parent) + 1);
    }

    std::vector<level> levels_;
    std::size_t links_ = 0;
};

} // namespace seqpar::plan
