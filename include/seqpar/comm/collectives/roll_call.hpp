#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/native.hpp>
#include <seqpar/comm/wait_until.hpp>
#include <seqpar/core/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <type_traits>
#include <vector>

namespace seqpar {
namespace detail {

/// Tells every other rank that this one is here, and notes in `here` who says so until `last`.
template <communicator C>
void call_back(C& c, std::vector<bool>& here, std::chrono::steady_clock::time_point last) {
    const std::byte mine{1};
    std::vector<std::byte> theirs(here.size());
    std::vector<request_t<C>> receives(here.size()), sends(here.size());
    for (int r = 0; r < c.size(); ++r) {
        if (r == c.rank()) continue;
        const auto at = static_cast<std::size_t>(r);
        receives[at] = c.exchange({}, r, {&theirs[at], 1}, r);
        sends[at] = c.exchange({&mine, 1}, r, {}, r);
    }
    for (std::size_t r = 0; r < here.size(); ++r) {
        if (wait_until(receives[r], last)) here[r] = true;
        static_cast<void>(wait_until(sends[r], last));
    }
}

} // namespace detail

namespace collective {

/// Gathers one value of every rank on every rank, and waits no longer than `patience` for a rank that does not call; zero or
/// less: for ever. Collective.
///
/// Cost per rank: ceil(log2 P) messages and rounds, for any P, as all_gather_doubling; a byte, and padding, more a value.
/// Throws communication_error that names the missing ranks, on every rank that has called, after `patience`, and a second
///             or `patience` more, whichever is less, for each round. The group is of no use then: a rank that comes late
///             finds the others gone.
template <class T, communicator C>
[[nodiscard]] std::vector<T> roll_call(C& c, const T& mine, std::chrono::milliseconds patience) {
    static_assert(std::is_trivially_copyable_v<T>, "roll_call sends values as their bytes");
    [[maybe_unused]] const auto named = detail::announce(c, "roll_call");
    using clock = std::chrono::steady_clock;
    struct seat {
        T said;
        std::uint8_t missing;
    };
    const int rank = c.rank(), size = c.size();
    const auto begin = clock::now();
    const bool for_ever = patience.count() <= 0;
    patience = std::min(patience, std::chrono::milliseconds(std::chrono::hours(24 * 365)));
    const auto slack = std::min(patience, std::chrono::milliseconds(1000));

    // What late messages may still be written to and read from stays as it is: [0] is where things are now.
    std::list<std::vector<seat>> known(1, std::vector<seat>(static_cast<std::size_t>(size)));
    std::list<request_t<C>> late;
    known.front().front() = {mine, 0};
    int round = 0;
    for (int held = 1; held < size; held *= 2, ++round) {
        std::vector<seat>& now = known.front();
        const auto at = static_cast<std::size_t>(held);
        const int moved = std::min(held, size - held), to = (rank - held + size) % size, from = (rank + held) % size;
        const std::size_t bytes = static_cast<std::size_t>(moved) * sizeof(seat);
        // Two, since the one may come and the other not. Blocks [0, held) -> [0, held + moved), the own one first.
        auto receive = c.exchange({}, from, {reinterpret_cast<std::byte*>(&now[at]), bytes}, from);
        auto send = c.exchange({reinterpret_cast<const std::byte*>(now.data()), bytes}, to, {}, to);
        if (for_ever) {
            receive.wait(), send.wait();
            continue;
        }
        // Who is missing to another is told in the next round, so this rank waits a little longer for it.
        const auto last = begin + patience + round * slack;
        if (!detail::wait_until(receive, last)) {
            std::vector<seat> next(static_cast<std::size_t>(size));
            std::copy_n(now.begin(), at, next.begin());
            for (std::size_t i = at; i < at + static_cast<std::size_t>(moved); ++i) next[i].missing = 1;
            known.push_front(std::move(next));
            late.push_back(std::move(receive));
        }
        if (!detail::wait_until(send, last)) late.push_back(std::move(send));
    }

    std::vector<T> all(static_cast<std::size_t>(size));
    std::vector<bool> here(static_cast<std::size_t>(size));
    for (int r = 0; r < size; ++r) {
        const seat& there = known.front()[static_cast<std::size_t>((r - rank + size) % size)];
        all[static_cast<std::size_t>(r)] = there.said;
        here[static_cast<std::size_t>(r)] = there.missing == 0;
    }
    if (std::count(here.begin(), here.end(), false) != 0) {
        // Nobody has the value of a missing rank, so all who have called are here, and tell each other directly: what the
        // missing one would have passed on is not missing.
        detail::call_back(c, here, begin + patience + (round + 1) * slack);
        std::string missing;
        int count = 0;
        for (int r = 0; r < size; ++r)
            if (!here[static_cast<std::size_t>(r)]) missing += (count++ == 0 ? "" : ", ") + std::to_string(r);
        throw communication_error(detail::concat(
            count == 1 ? "rank " : "ranks ", missing, count == 1 ? " has" : " have", " not called within ",
            static_cast<double>(patience.count()) / 1000, " s", detail::in_operation()));
    }
    // All have called; who is slow to take what it was sent will take it.
    for (auto& request : late) request.wait();
    return all;
}

} // namespace collective
} // namespace seqpar
