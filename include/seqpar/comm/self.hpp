#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/core/error.hpp>

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

namespace seqpar {

/// A group of one rank, which may exchange with itself. A message is copied when its second side is posted.
///
/// Errors: communication_error for another rank than 0, for sizes that differ, and for waiting for a message whose other
/// side was not posted: with one rank, nobody will.
class self_communicator {
    struct half {
        outgoing out;
        incoming in;
        bool met = false;
    };
    // Sides in the order posted that have not met their other side; at most one of the two holds any.
    struct unmet {
        std::deque<half*> sends, receives;
    };

public:
    class request {
    public:
        request() = default;
        request(request&& other) noexcept = default;
        request& operator=(request&& other) noexcept {
            request(std::move(other)).swap(*this);
            return *this;
        }
        ~request() {
            withdraw(send_, &unmet::sends);
            withdraw(receive_, &unmet::receives);
        }

        void wait() {
            if (!test()) {
                throw communication_error("self_communicator: wait for a message of which only one side was posted; "
                                          "post the other side first");
            }
        }
        bool test() { return (!send_ || send_->met) && (!receive_ || receive_->met); }

    private:
        friend class self_communicator;

        void swap(request& other) noexcept {
            std::swap(unmet_, other.unmet_);
            std::swap(send_, other.send_);
            std::swap(receive_, other.receive_);
        }
        void withdraw(const std::unique_ptr<half>& side, std::deque<half*> unmet::*queue) {
            if (side && !side->met) std::erase((*unmet_).*queue, side.get());
        }

        std::shared_ptr<unmet> unmet_;
        std::unique_ptr<half> send_, receive_;
    };

    self_communicator() : unmet_(std::make_shared<unmet>()) {}

    [[nodiscard]] int rank() const noexcept { return 0; }
    [[nodiscard]] int size() const noexcept { return 1; }

    request exchange(outgoing out, int to, incoming in, int from) {
        detail::check_peers(out, to, in, from, 1);
        request pending;
        pending.unmet_ = unmet_;
        if (out.bytes != 0) pending.send_ = post({out, {}}, unmet_->receives, unmet_->sends);
        if (in.bytes != 0) pending.receive_ = post({{}, in}, unmet_->sends, unmet_->receives);
        return pending;
    }

    self_communicator split(int /*color*/, int /*key*/) { return {}; }

private:
    /// Meets the first of `others`, or queues up among `like`.
    static std::unique_ptr<half> post(const half& mine, std::deque<half*>& others, std::deque<half*>& like) {
        if (others.empty()) {
            auto queued = std::make_unique<half>(mine);
            like.push_back(queued.get());
            return queued;
        }
        half& other = *others.front();
        const outgoing& out = mine.out.bytes != 0 ? mine.out : other.out;
        const incoming& in = mine.in.bytes != 0 ? mine.in : other.in;
        detail::copy_own_part(out, in, 0);
        others.pop_front();
        other.met = true;
        return nullptr;
    }

    std::shared_ptr<unmet> unmet_;
};

static_assert(communicator<self_communicator>);

} // namespace seqpar
