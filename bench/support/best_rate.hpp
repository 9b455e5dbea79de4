#pragma once

#include <time.h>

#include <algorithm>

namespace bench {

/// How much of something this core does a second, where run(n) does n times `amount`: the best of five times 10 ms.
template <class Run>
[[nodiscard]] double best_rate(double amount, const Run& run) {
    const auto now = [] { // of this thread on the processor: other programs and threads do not count
        timespec t{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    };
    const auto seconds = [&](long rounds) {
        const double begin = now();
        run(rounds);
        return now() - begin;
    };
    long rounds = 1000;
    while (seconds(rounds) < 10e-3) rounds *= 2;
    double best = 0;
    for (int i = 0; i < 5; ++i) best = std::max(best, amount * static_cast<double>(rounds) / seconds(rounds));
    return best;
}

} // namespace bench
