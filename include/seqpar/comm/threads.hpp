#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/comm/split_place.hpp>
#include <seqpar/comm/threads/rendezvous.hpp>
#include <seqpar/comm/threads/run_state.hpp>
#include <seqpar/core/error.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <latch>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace seqpar {

namespace detail::threads {
struct launch;
}

/// A group whose ranks are threads of this process. Made by threads::run, and by split.
///
/// exchange copies straight from the sender's buffer into the receiver's: whichever side is posted second does it while
/// posting. Waiting sleeps. If a rank fails, every rank that waits or posts from then on throws aborted; a rank that waits
/// for one that has ended throws communication_error.
/// Memory: one entry per message under way and O(1) per rank.
/// Errors: communication_error on both sides for sizes that differ, and for a rank that is not in the group.
class thread_communicator {
public:
    class request {
    public:
        request() = default;

        void wait() {
            receive_.wait();
            send_.wait();
        }
        /// Waits no longer than until `last`, and tells whether wait() would return at once.
        [[nodiscard]] bool wait_until(std::chrono::steady_clock::time_point last) {
            return receive_.wait_until(last) && send_.wait_until(last);
        }
        [[nodiscard]] bool test() { return receive_.test() && send_.test(); }

    private:
        friend class thread_communicator;
        detail::threads::pending receive_, send_;
    };

    [[nodiscard]] int rank() const noexcept { return rank_; }
    [[nodiscard]] int size() const noexcept { return group_->size(); }

    request exchange(outgoing out, int to, incoming in, int from) {
        using detail::threads::pending;
        detail::check_peers(out, to, in, from, size());
        if (group_->run().failed()) group_->run().throw_aborted();
        request posted;
        if (in.bytes != 0) posted.receive_ = pending(group_, from, rank_, {}, in, *bell_);
        if (out.bytes != 0) posted.send_ = pending(group_, rank_, to, out, {}, *bell_);
        return posted;
    }

    /// ceil(log2 P) rounds of small messages.
    thread_communicator split(int color, int key) {
        const group_place place = split_place(*this, color, key);
        const auto part = group_->subgroup(color, place.size);
        part->join(place.rank, *bell_);
        return {part, place.rank, *bell_};
    }

private:
    friend struct detail::threads::launch;

    thread_communicator(std::shared_ptr<detail::threads::group> group, int rank, detail::threads::bell& bell)
        : group_(std::move(group)), rank_(rank), bell_(&bell) {}

    std::shared_ptr<detail::threads::group> group_;
    int rank_;
    detail::threads::bell* bell_; // in the run, which the group holds
};

static_assert(communicator<thread_communicator>);

namespace detail::threads {

struct launch {
    static thread_communicator communicator_of(int rank, const std::shared_ptr<group>& world) {
        world->join(rank, world->run().bell_of(rank));
        return {world, rank, world->run().bell_of(rank)};
    }
};

} // namespace detail::threads

namespace threads {

/// The most ranks that one run may have.
inline constexpr int max_ranks = 1024;

/// Calls f(thread_communicator) as rank 0 to ranks-1 of a group of `ranks`, each on a thread of its own (rank 0 on the
/// caller's), and returns when all have ended. f is one object, called from all threads at once.
///
/// If f throws on a rank, all ranks that wait for a message, or post one from then on, throw aborted. What run throws is
/// what failed first: a refusal as it is, anything else as rank_error, which names the rank and the operation, with the
/// original nested in it. If f returns on a rank and another waits for a message from it or to it, that is a failure of
/// the one that waits.
/// Throws refusal, and calls f on no rank, if ranks is not in 1..max_ranks or the system has not enough threads.
template <std::invocable<thread_communicator> F>
void run(int ranks, F&& f) {
    if (ranks < 1 || ranks > max_ranks) {
        throw refusal(detail::concat("threads::run: ", ranks, " ranks; allowed: 1 to ", max_ranks,
                                     ", nearest: ", ranks < 1 ? 1 : max_ranks));
    }
    using namespace detail::threads;
    const auto state = std::make_shared<run_state>(ranks);
    const auto world = std::make_shared<group>(ranks, state);
    const auto work = [&](int rank) {
        try {
            f(launch::communicator_of(rank, world));
            state->end(rank);
        } catch (...) {
            state->fail(rank);
            detail::forget_failed_operation();
        }
    };

    // No rank begins before every thread is there: a run that cannot have all of them does nothing.
    std::latch all_there(1);
    bool called_off = false;
    std::vector<std::thread> others;
    others.reserve(static_cast<std::size_t>(ranks - 1));
    const auto join_all = [&] {
        for (std::thread& other : others) other.join();
    };
    try {
        for (int rank = 1; rank < ranks; ++rank) {
            others.emplace_back([&, rank] {
                all_there.wait();
                if (!called_off) work(rank);
            });
        }
    } catch (const std::exception& e) { // no thread, or no memory for one
        called_off = true;
        all_there.count_down();
        join_all();
        throw refusal(detail::concat("threads::run: ", ranks, " ranks; the system gives threads for no more than ",
                                     others.size() + 1, " (", e.what(), ')'));
    }
    all_there.count_down();
    work(0);
    join_all();
    state->rethrow();
}

} // namespace threads
} // namespace seqpar
