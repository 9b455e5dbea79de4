#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/operation.hpp>

#include <simgrid/s4u.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::simulated {

/// Messages of at least one byte between different ranks.
struct traffic {
    std::size_t messages = 0, bytes = 0;
};

} // namespace seqpar::simulated

namespace seqpar::detail::simulated {

using seqpar::simulated::traffic;

/// While an actor lets others run, what it is doing is not what they do: all are one thread.
class kept_operation {
public:
    kept_operation() = default;
    kept_operation(const kept_operation&) = delete;
    kept_operation& operator=(const kept_operation&) = delete;
    ~kept_operation() { operation_now = mine_; }

private:
    const operation_scope* mine_ = operation_now;
};

/// Where the two sides of a message meet for SimGrid.
struct meeting_place {
    simgrid::s4u::Mailbox* mailbox = nullptr;
    int posted = 0; ///< sides
};

/// One side of a message, until it meets the other one and has arrived.
struct half : std::enable_shared_from_this<half> {
    outgoing out;         ///< of the sending side
    incoming in;          ///< of the receiving side
    int from = 0, to = 0; ///< ranks of the run
    half* next = nullptr; ///< of the halves that wait for their other side, the one posted after it
    bool met = false;
    std::shared_ptr<meeting_place> place; ///< null: it takes no time
    simgrid::s4u::CommPtr moving;         ///< this side of what SimGrid moves
    std::string fault;                    ///< why it did not move, though it met the other one

    [[nodiscard]] bool sends() const noexcept { return out.bytes != 0; }
    [[nodiscard]] int owner() const noexcept { return sends() ? from : to; }
    [[nodiscard]] int peer() const noexcept { return sends() ? to : from; }
    [[nodiscard]] std::string text() const {
        return sends() ? concat("for rank ", to, " to take ", out.bytes, " bytes")
                       : concat("for ", in.bytes, " bytes from rank ", from);
    }
};

/// All ranks of one run. The first to fail decides what the run throws.
class run_state {
public:
    run_state(std::vector<simgrid::s4u::Host*> hosts, int ranks_per_node)
        : hosts_(std::move(hosts)), ranks_(hosts_.size()), ranks_per_node_(ranks_per_node),
          zero_(simgrid::s4u::Engine::get_clock()) {}

    [[nodiscard]] simgrid::s4u::Host* host(int rank) const { return hosts_[static_cast<std::size_t>(rank)]; }
    [[nodiscard]] int size() const noexcept { return static_cast<int>(hosts_.size()); }
    /// Simulated seconds since the run began: the engine's clock goes on from run to run.
    [[nodiscard]] double now() const { return simgrid::s4u::Engine::get_clock() - zero_; }
    /// When the last rank ended.
    [[nodiscard]] double last_end() const noexcept { return last_end_; }
    [[nodiscard]] const traffic& moved(bool inside) const noexcept { return inside ? inside_ : between_; }

    /// Sees to it that there is a place to meet at. Lets others run, if there is none yet.
    void prepare_place() {
        while (free_.empty()) {
            const int number = mailboxes_++;
            const kept_operation kept;
            simgrid::s4u::Mailbox* const made = simgrid::s4u::Mailbox::by_name(concat("seqpar ", number));
            free_.push_back(made);
        }
    }
    /// One that is lent until both sides have been posted there. @pre prepare_place(), and nobody else ran since
    [[nodiscard]] std::shared_ptr<meeting_place> take_place() {
        const auto taken = std::make_shared<meeting_place>(meeting_place{free_.back(), 0});
        free_.pop_back();
        return taken;
    }
    void count(int from, int to, std::size_t bytes) {
        traffic& of = from / ranks_per_node_ == to / ranks_per_node_ ? inside_ : between_;
        ++of.messages, of.bytes += bytes;
    }
    /// Tells SimGrid of one side: bytes begin to move when it knows of both. Lets others run.
    /// (Comm::sendto_async needs but one call; the engine keeps a list of all those that are under way, and goes through the
    /// whole of it whenever one ends.)
    void post(half& side) {
        static char something;
        static void* nowhere;
        const kept_operation kept;
        const std::shared_ptr<meeting_place> at = side.place;
        side.moving =
            side.sends() ? at->mailbox->put_async(&something, side.out.bytes) : at->mailbox->get_async<void>(&nowhere);
        if (++at->posted == 2) free_.push_back(at->mailbox);
    }

    [[nodiscard]] bool failed() const noexcept { return cause_ != nullptr; }
    [[nodiscard]] bool ended(int rank) const { return at(rank).ended; }

    void begin(int rank) { at(rank).actor = simgrid::s4u::Actor::self(); }

    /// Sleeps until the half has met its other side and has arrived, or never will: the run has failed, or the other rank has
    /// ended. What has met and is given up by its other side has arrived, too.
    void await(const half& h) {
        if (!h.moving) {
            while (!h.met && !failed() && !ended(h.peer())) suspend(h.owner(), &h);
            return;
        }
        if (!h.met && (failed() || ended(h.peer()))) return;
        const sleep asleep(*this, h.owner(), &h);
        try {
            h.moving->wait();
        } catch (const simgrid::Exception&) { // canceled
        }
    }
    /// Sleeps until ready(), which is said with wake(), or the run has failed.
    template <class Ready>
    void await(int rank, const Ready& ready) {
        while (!ready() && !failed()) suspend(rank, nullptr);
    }
    void wake(int rank) {
        rank_state& other = at(rank);
        if (!other.waits) return;
        if (other.what == nullptr || !other.what->moving) {
            other.actor->resume();
            return;
        }
        // What waits for its other side hears of no cancel(): it gets one.
        const kept_operation kept;
        half side;
        if (!other.what->sends()) side.out.bytes = 1;
        side.place = other.what->place;
        post(side);
        side.moving->cancel();
    }

    /// What still moves, though its owner does not wait for it any more, does so until all have ended: SimGrid complains of one
    /// that is gone before.
    void give_up(half& h) noexcept {
        if (!h.moving || h.moving->get_state() != simgrid::s4u::Activity::State::STARTED) return;
        try {
            given_up_.push_back(h.moving);
        } catch (const std::bad_alloc&) { // then it complains
        }
    }

    /// In a handler: keeps the exception. The caller wakes all once it has left the handler: others run then.
    void fail(int rank) {
        if (cause_) return;
        rank_ = rank, cause_ = std::current_exception(), text_ = failure_text();
    }
    void end(int rank) {
        at(rank).ended = true;
        last_end_ = now();
    }
    /// All whose wait is over once this rank has ended.
    void wake_after(int rank) {
        for (int r = 0; r < size(); ++r)
            if (const half* const what = at(r).what;
                at(r).waits && (what == nullptr || (!what->met && (failed() || what->peer() == rank))))
                wake(r);
    }

    /// Every rank waits for another: says so, as what the run throws.
    void deadlock() {
        if (cause_) return;
        std::string text = "simulated::run: every rank that is left waits for another one";
        int told = 0;
        for (int r = 0; r < size(); ++r) {
            const rank_state& each = at(r);
            if (!each.waits || ++told > most_told) continue;
            text += concat("\n  rank ", r, " waits ", each.what == nullptr ? "for others to split" : each.what->text());
            if (each.doing != nullptr) {
                std::string doing(240, '\0');
                doing.resize(each.doing->write(doing.data(), doing.size()));
                text += " (in " + doing + ')';
            }
        }
        if (told > most_told) text += concat("\n  and ", told - most_told, " more");
        cause_ = std::make_exception_ptr(communication_error(text));
        whole_run_ = true;
    }

    [[noreturn]] void throw_aborted() const { throw aborted(concat("rank ", rank_, " failed: ", text_)); }

    /// After all ranks have ended: lets their stacks go, and what nobody has waited for. What an actor runs refers to this, and
    /// this to the actor.
    void forget_actors() {
        for (const simgrid::s4u::CommPtr& each : given_up_) each->cancel();
        given_up_.clear();
        for (rank_state& each : ranks_) each.actor = nullptr;
    }
    /// After all ranks have ended: what run throws, if anything.
    void rethrow() const {
        if (!cause_) return;
        if (whole_run_) std::rethrow_exception(cause_);
        try {
            std::rethrow_exception(cause_);
        } catch (const refusal&) {
            throw;
        } catch (...) {
            std::throw_with_nested(rank_error(rank_, text_));
        }
    }

private:
    static constexpr int most_told = 16;

    struct rank_state {
        simgrid::s4u::ActorPtr actor;
        bool ended = false, waits = false;
        const half* what = nullptr;
        const operation_scope* doing = nullptr;
    };
    [[nodiscard]] rank_state& at(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
    [[nodiscard]] const rank_state& at(int rank) const { return ranks_[static_cast<std::size_t>(rank)]; }

    /// While it lives, a rank waits.
    class sleep {
    public:
        sleep(run_state& run, int rank, const half* what) : me_(run.at(rank)) {
            me_.waits = true, me_.what = what, me_.doing = operation_now;
        }
        sleep(const sleep&) = delete;
        sleep& operator=(const sleep&) = delete;
        ~sleep() { me_.waits = false; }

    private:
        const kept_operation kept_;
        rank_state& me_;
    };

    void suspend(int rank, const half* what) {
        const sleep asleep(*this, rank, what);
        simgrid::s4u::this_actor::suspend();
    }

    std::vector<simgrid::s4u::Host*> hosts_;
    std::vector<rank_state> ranks_;
    std::vector<simgrid::s4u::Mailbox*> free_;
    std::vector<simgrid::s4u::CommPtr> given_up_;
    int mailboxes_ = 0;
    int ranks_per_node_;
    double zero_, last_end_ = 0;
    traffic inside_, between_;
    int rank_ = 0;
    std::exception_ptr cause_;
    std::string text_;
    bool whole_run_ = false;
};

} // namespace seqpar::detail::simulated
