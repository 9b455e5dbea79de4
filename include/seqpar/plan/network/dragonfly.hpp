#pragma once

#include <cstddef>
#include <span>

namespace seqpar::plan {

/// The cables of a dragonfly and the shortest way of a message through them: at most one cable within the chassis, one
/// between the chassis of a group and one between groups, and again within the last group. The cable between groups a and b
/// is at router b of the first chassis of a and at router a of the first chassis of b. Each cable is two links.
///
/// These are the ways of SimGrid's dragonfly zones (3.32 to 4.1), with a flaw of theirs: within a group of several chassis, a
/// message that has changed its router goes on as from the first chassis. To another router of a chassis that is not the
/// first it takes a cable too many, and to one of the first, coming from another, a cable too few.
/// Source: J. Kim, W. J. Dally, S. Scott, D. Abts, Technology-Driven, Highly-Scalable Dragonfly Topology, 2008.
class dragonfly_cables {
public:
    /// Extents as of network_shape::dragonfly, of 1 and more, with extents[0] <= extents[2].
    explicit dragonfly_cables(std::span<const int> extents)
        : groups_(extents[0]), chassis_(extents[1]), routers_(extents[2]), nodes_(extents[3]) {
        const std::size_t routers = number(groups_) * number(chassis_) * number(routers_);
        within_chassis_ = 2 * routers * number(nodes_);
        between_chassis_ = within_chassis_ + routers * number(routers_);
        between_groups_ = between_chassis_ + routers * number(chassis_);
    }

    /// Some numbers are left out: no link joins a router with itself.
    [[nodiscard]] std::size_t links() const noexcept { return between_groups_ + number(groups_) * number(groups_); }

    /// Calls visit(link) for each link from one node to another, in the order of the way.
    template <class Visit>
    void route(int from, int to, Visit&& visit) const {
        place at = place_of(from / nodes_);
        const place target = place_of(to / nodes_);
        visit(2 * number(from));
        if (at.group != target.group) {
            to_router(at, target.group, visit);
            to_chassis(at, 0, visit);
            visit(between_groups_ + number(at.group) * number(groups_) + number(target.group));
            at = {target.group, 0, at.group};
        }
        if (at.router != target.router) {
            to_router(at, target.router, visit);
            at.chassis = 0; // as SimGrid has it
        }
        to_chassis(at, target.chassis, visit);
        visit(2 * number(to) + 1);
    }

private:
    struct place {
        int group, chassis, router;
    };

    [[nodiscard]] static std::size_t number(int n) noexcept { return static_cast<std::size_t>(n); }
    [[nodiscard]] place place_of(int router) const noexcept {
        return {router / (chassis_ * routers_), router / routers_ % chassis_, router % routers_};
    }
    [[nodiscard]] std::size_t index(const place& r) const noexcept {
        return number((r.group * chassis_ + r.chassis) * routers_ + r.router);
    }
    template <class Visit>
    void to_router(place& at, int wanted, Visit& visit) const {
        if (at.router == wanted) return;
        visit(within_chassis_ + index(at) * number(routers_) + number(wanted));
        at.router = wanted;
    }
    template <class Visit>
    void to_chassis(place& at, int wanted, Visit& visit) const {
        if (at.chassis == wanted) return;
        visit(between_chassis_ + index(at) * number(chassis_) + number(wanted));
        at.chassis = wanted;
    }

    int groups_, chassis_, routers_, nodes_;
    std::size_t within_chassis_ = 0, between_chassis_ = 0, between_groups_ = 0; ///< first links of each kind
};

} // namespace seqpar::plan
