#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace seqpar::tool {

/// A line on the terminal that says what is being done and for how long, for whatever takes over a second. It is gone when
/// the object is. Where standard error is no terminal, nothing is shown.
class progress {
public:
    explicit progress(bool wanted);
    ~progress();
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;

    /// What is done from now on. From any thread.
    void say(std::string what);

private:
    using clock = std::chrono::steady_clock;

    void tick(const std::stop_token& stop);

    std::mutex mutex_;
    std::condition_variable_any ended_;
    std::string what_ = "working";
    clock::time_point since_ = clock::now();
    std::jthread ticker_; // last: joined before the others go
};

} // namespace seqpar::tool
