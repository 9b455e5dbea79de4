#pragma once

#include <time.h>

#include <algorithm>
#include <functional>

namespace bench {

/// For the compiler: what lies there is read by somebody.
inline void keep(const void* result) { asm volatile("" : : "r"(result) : "memory"); }

/// Something that a core does again and again: run(n) does n times `amount`.
struct timed_loop {
    std::function<void(long)> run;
    double amount = 0;

    /// Of this thread on the processor: other programs and threads do not count.
    [[nodiscard]] double seconds(long rounds) const {
        const auto now = [] {
            timespec t{};
            ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
            return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
        };
        const double begin = now();
        run(rounds);
        return now() - begin;
    }
    /// How many take so long.
    [[nodiscard]] long rounds_for(double wanted) const {
        long rounds = 16;
        while (seconds(rounds) < wanted) rounds *= 2;
        return rounds;
    }
    /// The amount a second, of so many rounds.
    [[nodiscard]] double rate(long rounds) const { return amount * static_cast<double>(rounds) / seconds(rounds); }
    /// The best of five times 10 ms.
    [[nodiscard]] double best_rate() const {
        const long rounds = rounds_for(10e-3);
        double best = 0;
        for (int i = 0; i < 5; ++i) best = std::max(best, rate(rounds));
        return best;
    }
};

} // namespace bench
