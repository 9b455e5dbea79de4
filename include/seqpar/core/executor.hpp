#pragma once

#include <seqpar/core/cores.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/function_ref.hpp>
#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace seqpar {

/// One of `count` independent pieces of work, done by worker 0 <= worker < workers().
using task = function_ref<void(index_t item, int worker)>;

/// Where a kernel's independent pieces of work run.
///   1. e.workers() is the number of threads that may work at once, >= 1.
///   2. e.run(count, work) calls work(item, worker) once for each item in [0, count) and returns when all are done. Items
///      of one worker run one after the other. The calling thread is worker 0. An exception in a piece is rethrown.
template <class E>
concept executor = std::copyable<E> && requires(const E& e, index_t count, task work) {
    { e.workers() } -> std::same_as<int>;
    e.run(count, work);
};

/// Everything on the calling thread.
struct inline_executor {
    [[nodiscard]] int workers() const noexcept { return 1; }
    void run(index_t count, task work) const {
        for (index_t item = 0; item < count; ++item) work(item, 0);
    }
};
static_assert(executor<inline_executor>);

/// A pool of threads that live as long as the last copy of this handle. run() may be called by one thread at a time.
class thread_pool {
public:
    static constexpr int max_workers = 1024;

    /// `workers` threads in all, the caller of run() among them.
    explicit thread_pool(int workers) : self_(std::make_shared<state>()) {
        if (workers < 1 || workers > max_workers)
            throw refusal(detail::concat("a thread pool of ", workers, " workers: allowed are 1 to ", max_workers));
        self_->each_has_a_core = workers <= cores_here();
        for (int w = 1; w < workers; ++w)
            self_->threads.emplace_back([s = self_.get(), w](std::stop_token stop) { s->serve(stop, w); });
    }

    [[nodiscard]] int workers() const noexcept { return static_cast<int>(self_->threads.size()) + 1; }
    void run(index_t count, task work) const { self_->run(count, work); }

private:
    struct state {
        std::mutex mutex;
        std::condition_variable_any wake, done;
        std::atomic<index_t> next{0};
        index_t count = 0;
        const task* work = nullptr;
        std::atomic<std::uint64_t> generation{0}; // this and the next change under the mutex only
        std::atomic<int> busy{0};
        std::exception_ptr failure;
        bool each_has_a_core = false;
        std::vector<std::jthread> threads; // last member: joined before the others go

        void run(index_t items, const task& f) {
            {
                const std::lock_guard lock(mutex);
                next = 0;
                count = items;
                work = &f;
                failure = nullptr;
                busy = static_cast<int>(threads.size());
                ++generation;
            }
            wake.notify_all();
            take_items(f, 0);
            await([&] { return busy == 0; });
            std::unique_lock lock(mutex);
            done.wait(lock, [&] { return busy == 0; });
            if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
        }
        void serve(const std::stop_token& stop, int worker) {
            std::uint64_t seen = 0;
            std::unique_lock lock(mutex);
            while (wake.wait(lock, stop, [&] { return generation != seen; })) {
                seen = generation;
                const task f = *work;
                lock.unlock();
                take_items(f, worker);
                lock.lock();
                if (--busy == 0) done.notify_all();
                lock.unlock();
                await([&] { return generation != seen; });
                lock.lock();
            }
        }
        /// Waits a little for what is about to happen: to sleep and be woken takes longer. Only where each thread can have a core.
        template <class Happened>
        void await(const Happened& happened) const {
            if (!each_has_a_core) return;
            for (int i = 0; i < 2000 && !happened(); ++i) relax();
        }
        static void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#else
            std::this_thread::yield();
#endif
        }
        void take_items(const task& f, int worker) {
            try {
                for (index_t item; (item = next.fetch_add(1)) < count;) f(item, worker);
            } catch (...) {
                next = count;
                const std::lock_guard lock(mutex);
                if (!failure) failure = std::current_exception();
            }
        }
    };

    std::shared_ptr<state> self_;
};
static_assert(executor<thread_pool>);

/// Refers to an executor of any kind, which must outlive it. Default: the calling thread.
class executor_ref {
public:
    executor_ref() noexcept : executor_ref(on_the_caller()) {}
    template <class E>
        requires(!std::same_as<E, executor_ref> && executor<E>)
    executor_ref(const E& e)
    noexcept // NOLINT: an executor is an executor_ref
        : object_(&e), workers_([](const void* o) { return static_cast<const E*>(o)->workers(); }),
          run_([](const void* o, index_t count, task work) { static_cast<const E*>(o)->run(count, work); }) {}

    [[nodiscard]] int workers() const { return workers_(object_); }
    void run(index_t count, task work) const { run_(object_, count, work); }

private:
    static const inline_executor& on_the_caller() noexcept {
        static const inline_executor e;
        return e;
    }

    const void* object_;
    int (*workers_)(const void*);
    void (*run_)(const void*, index_t, task);
};
static_assert(executor<executor_ref>);

} // namespace seqpar
