#pragma once

#include <seqpar/comm/checking/witness.hpp>
#include <seqpar/comm/collectives/barrier.hpp>
#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/comm/native.hpp>
#include <seqpar/comm/self.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>
#include <utility>

namespace seqpar {

/// A communicator that holds one and tells a witness, which all ranks share, of everything that is done with it: for tests
/// of what is built on a communicator. What is wrong ends in an exception, and not in a hang:
///
///   - a message whose sides differ in size
///   - a buffer that a message arrives in while another uses it; bytes that change while they are sent
///   - a deadlock: no rank can go on. The text says of each rank what it waits for: how many bytes, of whom, in which
///     operation. A wait for a rank that has left is one, and so is a wait longer than the witness's patience
///   - when all is over, witness::close(): messages of which one side came only, requests that nobody waited for
///
/// The ranks live in one process: those of threads::run, or any other threads. Each makes one at its beginning, keeps it to
/// its end, and uses it and what is split off from it from one thread. Waiting tests and sleeps in turns. What the inner
/// model has of its own, a barrier or an all-to-all, is left aside, so that each message is seen.
///
/// Errors: communication_error for what is wrong, on the rank that finds out; aborted on ranks that wait meanwhile.
template <communicator C>
class checking {
    using clock = std::chrono::steady_clock;

public:
    class request {
    public:
        void wait() {
            if (!entry_.open()) {
                inner_.wait();
                return;
            }
            static_cast<void>(wait_until(clock::time_point::max()));
            inner_.wait();
            entry_.complete();
        }
        [[nodiscard]] bool test() { return inner_.test(); }
        /// Waits no longer than until `last`, and tells whether wait() would return at once.
        [[nodiscard]] bool wait_until(clock::time_point last) {
            if (!entry_.open()) return inner_.test();
            const auto begin = clock::now();
            const auto waiting = entry_.waits();
            for (auto pause = std::chrono::microseconds(1); !inner_.test(); pause = std::min(2 * pause, longest)) {
                const auto now = clock::now();
                if (now >= last) return false;
                entry_.judge(now - begin);
                std::this_thread::sleep_for(pause);
            }
            return true;
        }

    private:
        friend class checking;
        static constexpr std::chrono::microseconds longest{200};

        request_t<C> inner_; // withdrawn after its entry
        witness::entry entry_;
    };

    checking(C inner, const std::shared_ptr<witness>& sees)
        : inner_(std::move(inner)), place_(witness::seat(sees, inner_.rank(), inner_.size())) {}

    [[nodiscard]] int rank() const { return inner_.rank(); }
    [[nodiscard]] int size() const { return inner_.size(); }

    request exchange(outgoing out, int to, incoming in, int from) {
        detail::check_peers(out, to, in, from, size());
        request posted;
        posted.entry_ = place_.post(out, to, in, from);
        posted.inner_ = inner_.exchange(out, to, in, from);
        return posted;
    }

    checking split(int color, int key) {
        [[maybe_unused]] const auto named = detail::announce(*this, "split");
        collective::barrier(*this); // a rank that does not come is seen to be missing here, and not waited for inside
        C part = inner_.split(color, key);
        witness::place where = place_.split(color, part.rank(), part.size());
        checking result(std::move(part), std::move(where));
        collective::barrier(result); // all places are known from here on
        return result;
    }

private:
    checking(C inner, witness::place where) : inner_(std::move(inner)), place_(std::move(where)) {}

    C inner_;
    witness::place place_;
};

static_assert(communicator<checking<self_communicator>>);

} // namespace seqpar
