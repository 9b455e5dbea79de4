/// @file
/// Runs what it is asked to, one repetition at a time, so that a driver can interleave them with those of other programs: a
/// line of JSON on standard input, one on standard output. Ends with its input. worker/answers.hpp has the requests.

#include "worker/answers.hpp"
#include "worker/kernel_work.hpp"
#include "worker/thread_ranks.hpp"

#include <iostream>
#include <memory>
#include <string>

namespace {

struct on_threads {
    [[nodiscard]] std::unique_ptr<bench::work> operator()(const bench::request& r) const {
        return bench::with_type(r.type, [&]<class T>() -> std::unique_ptr<bench::work> {
            if (r.of_kernel()) return std::make_unique<bench::kernel_work<T>>(r);
            if (r.work == "strategy" || r.work == "strategy_backward")
                return std::make_unique<bench::thread_ranks<T>>(r);
            throw seqpar::refusal("work '" + r.work +
                                  "' is unknown: allowed are forward, backward, decode, strategy, strategy_backward");
        });
    }
};

} // namespace

int main() {
    bench::answers answer{on_threads{}};
    for (std::string line; std::getline(std::cin, line);) std::cout << answer(line).dump() << std::endl;
}
