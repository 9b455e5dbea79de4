#pragma once

#include <seqpar/comm/outstanding.hpp>
#include <seqpar/core/operation.hpp>
#include <seqpar/plan/ring_schedule.hpp>
#include <seqpar/strategy/parcel.hpp>

#include <utility>
#include <vector>

namespace seqpar::detail {

/// A message that is never sent.
struct no_message {
    [[nodiscard]] static outgoing out() noexcept { return {}; }
    [[nodiscard]] static incoming in() noexcept { return {}; }
};

/// The loop of every ring: all steps of the schedule, as one rank sees them. Messages are posted before the kernel of their
/// step and waited for after it. Between two ranks they are posted in one order on both: blocks, then sums, by stream.
///
/// What travels, a cargo c:
///   c.own_block()                   the own block, packed: a Cargo::block
///   c.room_for_block(owner)         a block that arrives
///   c.room_for_sum(owner)           a sum that arrives: a Cargo::sum
///   c.new_sum(owner)                a sum to be made
///   c.compute_own(travelling)       computes the own rows with the own keys
///   c.compute(block, owner, sum, travelling)
///   c.close(sum, before)            ends a sum, after the one that came from the rank before: null, if it is the first
///   c.bring_home(sum)               takes a sum of the own block
template <communicator C, class Cargo>
void travel(C& comm, const plan::ring_schedule& schedule, Cargo& cargo) {
    using plan::leg;
    struct lane {
        typename Cargo::block here, arriving;
        typename Cargo::sum leaving, made, before, home;
    };
    const int rank = comm.rank();
    std::vector<lane> lanes(static_cast<std::size_t>(schedule.streams()));
    for (int step = 0; step < schedule.steps(); ++step) {
        const operation_scope named("step", step);
        outstanding<C> travelling;
        const auto post = [&](outgoing out, leg to, incoming in, leg from) {
            if (out.bytes + in.bytes > 0)
                travelling.add(comm.exchange(out, to ? to.peer : rank, in, from ? from.peer : rank));
        };
        const auto each_lane = [&](const auto& f) {
            for (int stream = 0; stream < schedule.streams(); ++stream)
                f(lanes[static_cast<std::size_t>(stream)], stream);
        };
        each_lane([&](lane& l, int stream) {
            const leg to = schedule.passes_on(rank, stream, step), from = schedule.gets(rank, stream, step);
            if (to && step == 0) l.here = cargo.own_block();
            if (from) l.arriving = cargo.room_for_block(from.owner);
            post(to ? l.here.out() : outgoing{}, to, l.arriving.in(), from);
        });
        each_lane([&](lane& l, int stream) {
            const leg to = schedule.sends_sum(rank, stream, step), from = schedule.continues_sum(rank, stream, step),
                      homeward = schedule.sum_home(rank, stream, step);
            if (from) l.before = cargo.room_for_sum(from.owner);
            if (homeward) l.home = cargo.room_for_sum(homeward.owner);
            post(to ? l.leaving.out() : outgoing{}, to, l.before.in(), from);
            post({}, {}, l.home.in(), homeward);
        });
        each_lane([&](lane& l, int stream) {
            const int visitor = schedule.visitor(rank, stream, step);
            if (visitor >= 0 && step > 0) l.made = cargo.new_sum(visitor);
        });
        each_lane([&](lane& l, int stream) {
            const int visitor = schedule.visitor(rank, stream, step);
            if (visitor < 0) return;
            if (step == 0)
                cargo.compute_own(travelling);
            else
                cargo.compute(l.here, visitor, l.made, travelling);
        });
        travelling.wait();
        each_lane([&](lane& l, int stream) {
            if (step > 0 && schedule.visitor(rank, stream, step) >= 0)
                cargo.close(l.made, schedule.continues_sum(rank, stream, step) ? &l.before : nullptr);
            if (schedule.sum_home(rank, stream, step)) cargo.bring_home(l.home);
            l.here = std::exchange(l.arriving, {});
            l.leaving = std::exchange(l.made, {});
            l.before = {}, l.home = {};
        });
    }
}

} // namespace seqpar::detail
