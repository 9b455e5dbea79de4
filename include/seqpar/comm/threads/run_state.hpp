#pragma once

#include <seqpar/core/error.hpp>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::detail::threads {

/// Where one rank sleeps until a message of its own has moved or the run has failed.
struct bell {
    std::mutex mutex;
    std::condition_variable rung;
};

/// All ranks of one threads::run. The first rank to fail decides what the run throws.
class run_state {
public:
    explicit run_state(int size) : bells_(static_cast<std::size_t>(size)) {}

    [[nodiscard]] bell& bell_of(int rank) { return bells_[static_cast<std::size_t>(rank)]; }
    [[nodiscard]] bool failed() const noexcept { return failed_.load(std::memory_order_acquire); }

    /// Wakes every rank; what they wait for will not come.
    void fail(int rank, std::exception_ptr cause) noexcept {
        {
            const std::lock_guard lock(mutex_);
            if (cause_) {
                return;
            }
            rank_ = rank;
            cause_ = std::move(cause);
            failed_.store(true, std::memory_order_release);
        }
        for (bell& each : bells_) {
            // Taken so that a rank between its check and its sleep is not missed.
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
        if (!cause_) {
            return;
        }
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
};

} // namespace seqpar::detail::threads
