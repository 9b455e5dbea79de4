#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/self.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/operation.hpp>

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <utility>

namespace seqpar {

/// How an operation fails.
enum class fault_kind {
    exchange, ///< communication_error, which names the operation and the rank
    memory,   ///< std::bad_alloc
    vanish    ///< vanished: the rank leaves without a word, see unless_vanished
};

/// Thrown where a rank is to vanish. No std::exception, so that nobody takes it for a failure that is reported.
struct vanished {};

/// Calls f; if the rank vanishes in it, returns as if nothing had happened.
template <std::invocable F>
void unless_vanished(F&& f) {
    try {
        std::invoke(std::forward<F>(f));
    } catch (const vanished&) { // the others will notice
    }
}

/// A rank whose k-th operation fails, for tests of what the others do then. Each rank has one of its own; copies and splits
/// of its communicator count on in it. An operation is an exchange, a
/// wait for one or a split. From one thread.
class fault {
public:
    /// Nothing fails: operations are counted.
    fault() = default;
    /// The at-th operation fails, from 1 on.
    fault(fault_kind kind, std::int64_t at) noexcept : kind_(kind), at_(at) {}

    [[nodiscard]] std::int64_t operations() const noexcept { return done_; }
    /// Whether so many operations took place that one has failed.
    [[nodiscard]] bool happened() const noexcept { return at_ != 0 && done_ >= at_; }

    /// Counts an operation of that rank, and lets it fail if its turn has come. Later ones do not fail.
    void operation(const char* name, int rank) {
        if (++done_ != at_) return;
        switch (kind_) {
        case fault_kind::memory:
            throw std::bad_alloc();
        case fault_kind::vanish:
            throw vanished();
        case fault_kind::exchange:
            break;
        }
        throw communication_error(detail::concat("operation ", at_, " of rank ", rank, ", ", name, ", is made to fail",
                                                 detail::in_operation()));
    }

private:
    fault_kind kind_ = fault_kind::exchange;
    std::int64_t at_ = 0, done_ = 0;
};

/// A communicator that holds one, and whose operations fail as a fault says. Ranks in its texts are those of the group that
/// it was made for. What the inner model has of its own, a barrier or an all-to-all, is left aside, so that each message of
/// it can fail. test() never fails: it may be called any number of times.
template <communicator C>
class failing {
public:
    class request {
    public:
        request() = default;

        void wait() {
            if (const auto how = std::move(how_)) how->operation("a wait", rank_);
            inner_.wait();
        }
        [[nodiscard]] bool test() { return inner_.test(); }

    private:
        friend class failing;
        request_t<C> inner_;
        std::shared_ptr<fault> how_; // null: nothing to wait for
        int rank_ = 0;
    };

    failing(C inner, std::shared_ptr<fault> how)
        : inner_(std::move(inner)), how_(std::move(how)), known_(inner_.rank()) {}

    [[nodiscard]] int rank() const { return inner_.rank(); }
    [[nodiscard]] int size() const { return inner_.size(); }

    request exchange(outgoing out, int to, incoming in, int from) {
        if (out.bytes + in.bytes != 0) how_->operation("an exchange", known_);
        request posted;
        posted.inner_ = inner_.exchange(out, to, in, from);
        if (out.bytes + in.bytes != 0) posted.how_ = how_, posted.rank_ = known_;
        return posted;
    }

    failing split(int color, int key) {
        how_->operation("a split", known_);
        failing part(inner_.split(color, key), how_);
        part.known_ = known_;
        return part;
    }

private:
    C inner_;
    std::shared_ptr<fault> how_;
    int known_;
};

static_assert(communicator<failing<self_communicator>>);

} // namespace seqpar
