#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/operation.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::detail::threads {

/// Where one rank sleeps until a message of its own has moved, the run has failed or the rank that it waits for has ended.
struct bell {
    int rank = 0; // in the run
    std::mutex mutex;
    std::condition_variable rung;
    std::atomic<int> sleepers = 0;
    std::atomic<bool> ended = false; // the rank has left: it will post nothing more

    template <class Ready>
    void sleep(std::unique_lock<std::mutex>& lock, const Ready& ready) {
        const sleeper here(sleepers);
        rung.wait(lock, ready);
    }
    template <class Ready>
    [[nodiscard]] bool sleep_until(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point last,
                                   const Ready& ready) {
        const sleeper here(sleepers);
        return rung.wait_until(lock, last, ready);
    }

private:
    // Announced before what is waited for is looked at: who ends looks at it after having said so. One of the two sees.
    struct sleeper {
        std::atomic<int>& count;
        explicit sleeper(std::atomic<int>& all) : count(all) { ++count; }
        ~sleeper() { --count; }
    };
};

/// All ranks of one threads::run. The first rank to fail decides what the run throws.
class run_state {
public:
    explicit run_state(int size) : bells_(static_cast<std::size_t>(size)) {
        for (std::size_t r = 0; r < bells_.size(); ++r) bells_[r].rank = static_cast<int>(r);
    }

    [[nodiscard]] bell& bell_of(int rank) { return bells_[static_cast<std::size_t>(rank)]; }
    [[nodiscard]] bool failed() const noexcept { return failed_.load(std::memory_order_acquire); }

    /// In a handler: keeps the exception, and wakes every rank; what they wait for will not come.
    void fail(int rank) noexcept {
        {
            const std::lock_guard lock(mutex_);
            if (cause_) return;
            rank_ = rank;
            cause_ = std::current_exception();
            try {
                text_ = failure_text();
            } catch (...) { // no memory for it: what it says itself must do
            }
            failed_.store(true, std::memory_order_release);
        }
        for (bell& each : bells_) {
            // Taken so that a rank between its check and its sleep is not missed.
            { const std::lock_guard lock(each.mutex); }
            each.rung.notify_all();
        }
    }

    /// The rank has left without an exception. Wakes those who sleep: it may be the one that they wait for.
    void end(int rank) noexcept {
        bell_of(rank).ended = true;
        for (bell& each : bells_) {
            if (each.sleepers == 0) continue;
            { const std::lock_guard lock(each.mutex); }
            each.rung.notify_all();
        }
    }

    [[noreturn]] void throw_aborted() {
        const std::lock_guard lock(mutex_);
        throw aborted(concat("rank ", rank_, " failed: ", what()));
    }

    /// After all ranks have ended: what run throws, if anything.
    void rethrow() {
        if (!cause_) return;
        try {
            std::rethrow_exception(cause_);
        } catch (const refusal&) {
            throw;
        } catch (...) {
            std::throw_with_nested(rank_error(rank_, what()));
        }
    }

private:
    [[nodiscard]] std::string what() const {
        if (!text_.empty()) return text_;
        try {
            std::rethrow_exception(cause_);
        } catch (const std::exception& e) {
            return e.what();
        } catch (...) {
            return "an exception that is no std::exception";
        }
    }

    std::vector<bell> bells_;
    std::atomic<bool> failed_ = false;
    std::mutex mutex_;
    int rank_ = 0;
    std::exception_ptr cause_;
    std::string text_;
};

} // namespace seqpar::detail::threads
