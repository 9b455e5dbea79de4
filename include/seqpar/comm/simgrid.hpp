#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/comm/simgrid/engine.hpp>
#include <seqpar/comm/simgrid/group.hpp>
#include <seqpar/comm/simgrid/platform.hpp>
#include <seqpar/comm/simgrid/run_state.hpp>
#include <seqpar/comm/wait_until.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/plan/machine.hpp>

#include <chrono>
#include <concepts>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

namespace seqpar {

namespace simulated {

/// What a run has come to.
struct outcome {
    double seconds = 0; ///< simulated
    traffic inside;     ///< between ranks of a node
    traffic between;    ///< between nodes
};

} // namespace simulated

namespace detail::simulated {
struct launch;
}

/// A group whose ranks are actors of a simulated cluster (SimGrid), in one thread of this process. Made by simulated::run, and
/// by split.
///
/// A message is copied when its second side is posted, and then takes the simulated time of its bytes, ghosts too; what a rank
/// computes takes none but what it says with compute(). A split is no message. Runs are deterministic.
/// (Casanova et al. 2014, Versatile, scalable and accurate simulation of distributed applications, JPDC 74(10).)
///
/// Errors: as thread_communicator's. If all ranks wait for each other, simulated::run says what for.
class simgrid_communicator {
    using half = detail::simulated::half;
    using group = detail::simulated::group;

public:
    static constexpr double poll = 1e-7; ///< seconds

    class request {
    public:
        request() = default;
        request(request&& other) noexcept = default;
        request& operator=(request&& other) noexcept {
            if (this != &other) {
                withdraw();
                group_ = std::move(other.group_);
                receive_ = std::move(other.receive_), send_ = std::move(other.send_);
                from_ = other.from_, to_ = other.to_, rank_ = other.rank_;
            }
            return *this;
        }
        ~request() { withdraw(); }

        void wait() {
            wait_for(receive_, from_, rank_);
            wait_for(send_, rank_, to_);
        }
        /// Sleeps until wait() would return at once, whatever the time that is given: it is of the clock on the wall, and a
        /// simulation knows without one who will never come.
        [[nodiscard]] bool wait_until(std::chrono::steady_clock::time_point) {
            for (const auto& side : {receive_, send_})
                if (side) group_->run().await(*side);
            return true;
        }
        /// A test that finds nothing takes `poll` of simulated time: who polls lets others run.
        [[nodiscard]] bool test() {
            if (has_come(receive_) && has_come(send_)) return true;
            const detail::simulated::kept_operation kept;
            simgrid::s4u::this_actor::sleep_for(poll);
            return false;
        }

    private:
        friend class simgrid_communicator;

        void wait_for(std::shared_ptr<half>& side, int from, int to) {
            if (!side) return;
            detail::simulated::run_state& run = group_->run();
            run.await(*side);
            if (!side->met) {
                group_->withdraw(*side, from, to);
                const std::shared_ptr<half> mine = std::move(side);
                if (run.failed()) run.throw_aborted();
                throw communication_error(detail::concat("rank ", mine->peer(), " has ended while rank ", mine->owner(),
                                                         " waits ", mine->text(), detail::in_operation()));
            }
            if (!side->fault.empty()) throw communication_error(std::exchange(side, nullptr)->fault);
            side = nullptr;
        }
        [[nodiscard]] bool has_come(const std::shared_ptr<half>& side) {
            if (!side) return true;
            // What cannot come any more, or does not fit, is for wait() to say.
            if (!side->met) return group_->run().failed() || group_->run().ended(side->peer());
            if (!side->moving) return true;
            const detail::simulated::kept_operation kept;
            return side->moving->test();
        }
        void withdraw() noexcept {
            if (send_) group_->withdraw(*send_, rank_, to_);
            if (receive_) group_->withdraw(*receive_, from_, rank_);
            for (std::shared_ptr<half>* side : {&send_, &receive_})
                if (const std::shared_ptr<half> mine = std::move(*side)) group_->run().give_up(*mine);
        }

        std::shared_ptr<group> group_;
        std::shared_ptr<half> receive_, send_;
        int from_ = 0, to_ = 0, rank_ = 0;
    };

    [[nodiscard]] int rank() const noexcept { return rank_; }
    [[nodiscard]] int size() const noexcept { return group_->size(); }

    request exchange(outgoing out, int to, incoming in, int from) {
        detail::check_peers(out, to, in, from, size());
        if (group_->run().failed()) group_->run().throw_aborted();
        request posted;
        posted.group_ = group_;
        posted.from_ = from, posted.to_ = to, posted.rank_ = rank_;
        const auto post = [&](std::shared_ptr<half>& side, outgoing sent, incoming received, int source, int target) {
            side = std::make_shared<half>();
            side->out = sent, side->in = received;
            group_->meet(*side, source, target);
            if (!side->fault.empty()) throw communication_error(side->fault);
        };
        if (in.bytes != 0) post(posted.receive_, {}, in, from, rank_);
        if (out.bytes != 0) post(posted.send_, out, {}, rank_, to);
        return posted;
    }

    /// No message, and no simulated time.
    simgrid_communicator split(int color, int key) {
        auto [part, place] = group_->split(rank_, color, key);
        return {std::move(part), place};
    }

    /// The rank of the run that a member of this group is.
    [[nodiscard]] int rank_in_run(int member) const { return group_->known(member); }

    /// This rank computes for so many simulated seconds. What it has posted moves meanwhile.
    void compute(double seconds) const {
        if (!(seconds > 0)) return;
        const detail::simulated::kept_operation kept;
        simgrid::s4u::this_actor::sleep_for(seconds);
    }
    /// Simulated seconds since the run began.
    [[nodiscard]] double now() const { return group_->run().now(); }
    /// What all ranks have moved until now.
    [[nodiscard]] simulated::outcome so_far() const {
        const detail::simulated::run_state& run = group_->run();
        return {run.now(), run.moved(true), run.moved(false)};
    }

private:
    friend struct detail::simulated::launch;

    simgrid_communicator(std::shared_ptr<group> in, int rank) : group_(std::move(in)), rank_(rank) {}

    std::shared_ptr<group> group_;
    int rank_;
};

static_assert(communicator<simgrid_communicator> && patient_request<simgrid_communicator::request>);

namespace detail::simulated {

struct launch {
    static simgrid_communicator communicator_of(const std::shared_ptr<group>& world, int rank) { return {world, rank}; }
};

} // namespace detail::simulated

namespace simulated {

/// Calls f(simgrid_communicator) as rank 0 to ranks - 1 of a group of that many ranks of a machine, and returns when all
/// have ended. f is one object.
///
/// If f throws on a rank, all ranks that wait for a message, or post one from then on, throw aborted, and what run throws
/// is what threads::run would throw. If all ranks wait for each other, it throws communication_error, which lists them.
/// SimGrid counts the nodes of all fat trees of a process as one: those of a second machine may go other ways than the first.
/// Costs about 40 KB a rank and, of a message or a compute(), some microseconds and 1 KB while it is under way.
/// Throws refusal if the machine has not as many ranks, or a run is under way in this process.
template <std::invocable<simgrid_communicator> F>
outcome run(const plan::machine& machine, int ranks, F&& f) {
    using namespace detail::simulated;
    engine all;
    const auto state = std::make_shared<run_state>(build_platform(machine, ranks), machine.ranks_per_node);
    std::vector<int> members(static_cast<std::size_t>(ranks));
    std::iota(members.begin(), members.end(), 0);
    const auto world = std::make_shared<group>(state, std::move(members));
    for (int rank = 0; rank < ranks; ++rank) {
        simgrid::s4u::Actor::create("rank", state->host(rank), [&f, &world, state, rank] {
            detail::operation_now = nullptr;
            state->begin(rank);
            try {
                f(launch::communicator_of(world, rank));
            } catch (const simgrid::ForcefulKillException&) { // nobody is left to wait for
                throw;
            } catch (...) {
                state->fail(rank);
                detail::forget_failed_operation();
            }
            state->end(rank);
            state->wake_after(rank);
        });
    }
    all.run([&] { state->deadlock(); });
    state->forget_actors();
    state->rethrow();
    return {state->last_end(), state->moved(true), state->moved(false)};
}

} // namespace simulated
} // namespace seqpar
