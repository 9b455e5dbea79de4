#pragma once

#include <seqpar/plan/cost.hpp>
#include <seqpar/plan/ring_route.hpp>
#include <seqpar/plan/ring_schedule.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::plan {

enum class pass { forward, backward };

/// Bytes of what travels for one rank's block, and of what is held to compute with it.
struct ring_cargo {
    std::size_t block = 0;   ///< keys: K, V; queries: Q, and in backward dout, lse, delta
    std::size_t sum = 0;     ///< keys: none, in backward dk, dv; queries: (out, lse), in backward dq
    std::size_t partial = 0; ///< beside the sum, while it is made

    ring_cargo(const problem& p, ring_passing passing, pass of, int owner) {
        const std::size_t rows = p.items(p.of(owner).queries), a = p.accumulator_bytes,
                          dim = static_cast<std::size_t>(p.dim), dim_v = static_cast<std::size_t>(p.dim_v);
        const bool back = of == pass::backward;
        if (passing == ring_passing::keys) {
            block = p.kv_bytes(owner);
            if (back) sum = block / p.element_bytes * a;
        } else {
            block = p.q_bytes(owner);
            if (back) block += rows * (dim_v * p.element_bytes + 2 * a);
            sum = rows * (back ? dim : dim_v + 1) * a;
            if (!back) partial = p.partial_bytes(owner);
        }
    }
};

/// Bytes that all ranks send in a pass.
[[nodiscard]] inline std::size_t ring_bytes(const problem& p, const ring_route& route, ring_passing passing, pass of) {
    const ring_schedule schedule(p, route, passing);
    std::size_t bytes = 0;
    for (int owner = 0; owner < p.size(); ++owner) {
        const ring_cargo cargo(p, passing, of, owner);
        bytes += cargo.block * static_cast<std::size_t>(schedule.times_sent(owner));
        if (cargo.sum > 0) bytes += cargo.sum * static_cast<std::size_t>(schedule.sums_sent(owner));
    }
    return bytes;
}

/// What travels: never `automatic`. The same on every rank.
[[nodiscard]] inline ring_passing ring_choice(const problem& p, const ring_route& route, ring_passing wish, pass of) {
    if (wish != ring_passing::automatic) return wish;
    return ring_bytes(p, route, ring_passing::queries, of) < ring_bytes(p, route, ring_passing::keys, of)
               ? ring_passing::queries
               : ring_passing::keys;
}

namespace detail {

/// A message of a ring: on an inner ring it wraps round the inner ring's ranks.
[[nodiscard]] inline step::message ring_message(const problem& p, const ring_route& route, int rank, int to,
                                                std::size_t bytes) {
    const int width = route.way == ring_route::kind::double_ring ? route.width : p.size();
    if (rank / width != to / width) return p.message(to - rank, bytes);
    return {width, p.stride, (to - rank + width) % width, bytes};
}

} // namespace detail

/// A ring, by its schedule. When even and everyone sees everyone, m = P - 1:
///   keys     forward 2 n k m elements; backward these and 2 n k m accumulators
///   queries  forward n h m elements and n m (h + H) accumulators; backward 2 n h m elements and n m (h + 2 H) accumulators
/// Memory: the most that is held at a step, of: blocks that are here and that arrive, sums that are made, leave and arrive,
/// the kernel's scratch; and in forward the partial of the own rows. The own block is packed only if it leaves.
[[nodiscard]] inline cost ring_cost(const problem& p, int rank, const ring_route& route, ring_passing wish, pass of) {
    const ring_passing passing = ring_choice(p, route, wish, of);
    const ring_schedule schedule(p, route, passing);
    const auto cargo = [&](int owner) { return ring_cargo(p, passing, of, owner); };
    const auto scratch = [&](int visitor) {
        const int queries = passing == ring_passing::keys ? rank : visitor,
                  keys = passing == ring_passing::keys ? visitor : rank;
        const std::span<const positions> at(&p.of(keys).keys.rows, 1);
        return of == pass::forward ? p.kernel(queries, at) : p.backward_kernel(queries, at);
    };
    cost c;
    std::vector<step::message> messages; // of a step; of a pair of ranks, together
    std::vector<step::work> computed;
    for (int step = 0; step < schedule.steps(); ++step) {
        std::size_t sent = 0, received = 0, here = 0, sums = 0, most_scratch = 0;
        messages.clear(), computed.clear();
        const auto send = [&](int to, std::size_t bytes) {
            c.messages += bytes > 0;
            sent += bytes;
            const step::message next = detail::ring_message(p, route, rank, to, bytes);
            for (step::message& m : messages)
                if (m.group == next.group && m.shift == next.shift) return void(m.bytes += bytes);
            messages.push_back(next);
        };
        for (int stream = 0; stream < schedule.streams(); ++stream) {
            if (const leg out = schedule.passes_on(rank, stream, step)) {
                send(out.peer, cargo(out.owner).block);
                if (step == 0) here += cargo(rank).block;
            }
            if (const leg in = schedule.gets(rank, stream, step)) received += cargo(in.owner).block;
            if (const leg in = step == 0 ? leg{} : schedule.gets(rank, stream, step - 1)) here += cargo(in.owner).block;
            if (const leg out = schedule.sends_sum(rank, stream, step)) {
                send(out.peer, cargo(out.owner).sum);
                sums += cargo(out.owner).sum;
            }
            for (const leg in : {schedule.continues_sum(rank, stream, step), schedule.sum_home(rank, stream, step)})
                if (in) received += cargo(in.owner).sum;
            if (const int visitor = schedule.visitor(rank, stream, step); visitor >= 0) {
                if (step > 0) sums += cargo(visitor).sum + cargo(visitor).partial;
                most_scratch = std::max(most_scratch, scratch(visitor));
                const bool stay = passing == ring_passing::keys;
                computed.push_back({&p.of(stay ? rank : visitor).queries, {&p.of(stay ? visitor : rank).keys.rows, 1}});
            }
        }
        p.tell(messages, computed);
        c.bytes += sent;
        c.rounds += sent + received > 0;
        c.memory = std::max(c.memory, here + sums + received + most_scratch);
    }
    if (of == pass::forward) c.memory += p.partial_bytes(rank);
    return c;
}

} // namespace seqpar::plan
