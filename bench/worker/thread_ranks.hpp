#pragma once

#include "rank_work.hpp"

#include <seqpar/comm/threads.hpp>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

namespace bench {

/// A strategy whose ranks are threads, which sleep between repetitions.
template <class T>
class thread_ranks final : public work {
public:
    explicit thread_ranks(const request& r)
        : host_([this, r] {
              try {
                  seqpar::threads::run(r.ranks, [&](const seqpar::thread_communicator& comm) { serve(comm, r); });
              } catch (...) {
                  answer(0, std::current_exception());
              }
          }) {
        try {
            static_cast<void>(await_answer());
        } catch (...) {
            host_.join();
            throw;
        }
    }
    ~thread_ranks() override {
        post({order::kind::quit, 0, {}});
        host_.join();
    }

    [[nodiscard]] double run(int times) override {
        post({order::kind::run, times, {}});
        return await_answer();
    }
    void write(const std::string& directory) override {
        post({order::kind::write, 0, directory});
        static_cast<void>(await_answer());
    }

private:
    struct order {
        enum class kind { run, write, quit } what = kind::run;
        int times = 0;
        std::string directory;
    };

    void serve(const seqpar::thread_communicator& comm, const request& r) {
        try {
            obey(comm, r);
        } catch (...) {
            // The others may be waiting for an order, not for a message: tell them.
            const std::lock_guard lock(mutex_);
            broken_ = true;
            changed_.notify_all();
            throw;
        }
    }
    void obey(const seqpar::thread_communicator& comm, const request& r) {
        rank_work<T, seqpar::thread_communicator> mine(comm, r);
        if (comm.rank() == 0) answer(0);
        for (long turn = 1;; ++turn) {
            order now;
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [&] { return turn_ >= turn || broken_; });
                if (broken_) return;
                now = order_;
            }
            if (now.what == order::kind::quit) return;
            double seconds = 0;
            if (now.what == order::kind::run)
                seconds = mine.run(now.times);
            else
                mine.write(now.directory);
            // An order is done when all ranks have taken part: only then may the next one replace it.
            auto world = comm;
            seqpar::collective::barrier(world);
            if (comm.rank() == 0) answer(seconds);
        }
    }

    void post(order next) {
        const std::lock_guard lock(mutex_);
        if (failure_) return;
        order_ = std::move(next);
        ++turn_;
        changed_.notify_all();
    }
    void answer(double seconds, std::exception_ptr failure = nullptr) {
        const std::lock_guard lock(mutex_);
        seconds_ = seconds, failure_ = std::move(failure);
        ++answered_;
        changed_.notify_all();
    }
    [[nodiscard]] double await_answer() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return answered_ > turn_ || failure_; });
        if (failure_) std::rethrow_exception(failure_);
        return seconds_;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    order order_;
    long turn_ = 0, answered_ = 0; // one answer more than orders: that of the ranks being ready
    double seconds_ = 0;
    bool broken_ = false; // a rank has thrown
    std::exception_ptr failure_;
    std::thread host_; // last: what it uses is there
};

} // namespace bench
