#include "progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace seqpar::tool {
namespace {

[[nodiscard]] std::size_t columns() {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80U;
}

} // namespace

progress::progress(bool wanted) {
    if (wanted && ::isatty(STDERR_FILENO) == 1)
        ticker_ = std::jthread([this](const std::stop_token& stop) { tick(stop); });
}

progress::~progress() = default;

void progress::say(std::string what) {
    const std::lock_guard lock(mutex_);
    what_ = std::move(what);
}

void progress::tick(const std::stop_token& stop) {
    using namespace std::chrono_literals;
    bool shown = false;
    std::unique_lock lock(mutex_);
    // wait_for: true only if the object is about to go
    while (!ended_.wait_for(lock, stop, 200ms, [&] { return stop.stop_requested(); })) {
        const std::chrono::duration<double> passed = clock::now() - since_;
        if (passed < 1s) continue;
        const std::string line = fmt::format("{} ... {:.0f} s", what_, passed.count());
        fmt::print(stderr, "\r\033[K{}", line.substr(0, columns() - 1));
        std::fflush(stderr);
        shown = true;
    }
    if (shown) {
        fmt::print(stderr, "\r\033[K");
        std::fflush(stderr);
    }
}

} // namespace seqpar::tool
