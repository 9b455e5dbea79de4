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

/// One side of a message, until it meets the other one and has arrived.
struct half : std::enable_shared_from_this<half> {
    outgoing out;         ///< of the sending side
    incoming in;          ///< of the receiving side
    int from = 0, to = 0; ///< ranks of the run
    half* next = nullptr; ///< of the halves that wait for their other side, the one posted after it
    bool met = false;
    simgrid::s4u::CommPtr moving; ///< null: it took no time
    std::string fault;            ///< why it did not move, though it met the other one

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

    /// Bytes begin to move. Null: they are there already.
    [[nodiscard]] simgrid::s4u::CommPtr transfer(int from, int to, std::size_t bytes) {
        if (from == to) return nullptr;
        traffic& of = from / ranks_per_node_ == to / ranks_per_node_ ? inside_ : between_;
        ++of.messages, of.bytes += bytes;
        const kept_operation kept;
        return simgrid::s4u::Comm::sendto_async(host(from), host(to), bytes);
    }

    [[nodiscard]] bool failed() const noexcept { return cause_ != nullptr; }
    [[nodiscard]] bool ended(int rank) const { return at(rank).ended; }

    void begin(int rank) { at(rank).actor = simgrid::s4u::Actor::self(); }

    /// Sleeps until the half has met its other side, or never will: the run has failed, or the other rank has ended.
    void await(const half& h) {
        while (!h.met && !failed() && !ended(h.peer())) suspend(h.owner(), &h);
    }
    /// Sleeps until ready(), which is said with wake(), or the run has failed.
    template <class Ready>
    void await(int rank, const Ready& ready) {
        while (!ready() && !failed()) suspend(rank, nullptr);
    }
    void wake(int rank) {
        if (at(rank).waits) at(rank).actor->resume();
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
    void wake_all() {
        for (int r = 0; r < size(); ++r) wake(r);
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

    /// After all ranks have ended: lets their stacks go. What an actor runs refers to this, and this to the actor.
    void forget_actors() {
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

    void suspend(int rank, const half* what) {
        const kept_operation kept;
        rank_state& me = at(rank);
        me.waits = true, me.what = what, me.doing = operation_now;
        simgrid::s4u::this_actor::suspend();
        me.waits = false;
    }

    std::vector<simgrid::s4u::Host*> hosts_;
    std::vector<rank_state> ranks_;
    int ranks_per_node_;
    double zero_, last_end_ = 0;
    traffic inside_, between_;
    int rank_ = 0;
    std::exception_ptr cause_;
    std::string text_;
    bool whole_run_ = false;
};

} // namespace seqpar::detail::simulated
