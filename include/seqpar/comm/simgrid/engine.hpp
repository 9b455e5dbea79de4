#pragma once

#include <seqpar/core/error.hpp>

#include <simgrid/s4u.hpp>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace seqpar::detail::simulated {

/// Whether a sanitizer watches, which knows of no other stacks than those of threads. g++ says so by macros, clang++ by features.
inline constexpr bool sanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    true;
#else
    false;
#endif
#else
    false;
#endif

/// SimGrid's engine, set so that a message of b bytes takes latency + b / bandwidth, both ways at once too (its own default
/// corrects both for TCP), and without a word on stderr. One at a time in a process; settings hold for all of them.
class engine {
public:
    engine() {
        namespace s4u = simgrid::s4u;
        if (s4u::Engine::is_initialized())
            throw refusal("simulated::run: this process has an engine of SimGrid already: allowed is one at a time");
        static bool settled = false;
        std::vector<std::string> words{"seqpar"};
        if (!settled)
            for (const char* word :
                 {"--cfg=network/model:CM02", "--cfg=network/crosstraffic:0", "--cfg=network/TCP-gamma:0",
                  sanitized ? "--cfg=contexts/factory:thread" : "--cfg=contexts/factory:raw",
                  sanitized ? "--cfg=contexts/stack-size:8192" : "--cfg=contexts/stack-size:256",
                  "--log=root.thres:critical", "--log=root.app:file:/dev/null"})
                words.emplace_back(word);
        settled = true;
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        int count = static_cast<int>(arguments.size());
        arguments.push_back(nullptr);
        engine_ = std::make_unique<s4u::Engine>(&count, arguments.data());
    }
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;

    /// Runs all actors to their end. If all wait for each other, calls deadlocked(), and they end where they wait.
    void run(const std::function<void()>& deadlocked) {
        static std::function<void()> notify; // what is told the engine's signal once is told for ever
        static const bool connected = [] {
            simgrid::s4u::Engine::on_deadlock_cb([] { notify(); });
            return true;
        }();
        static_cast<void>(connected);
        notify = deadlocked;
        engine_->run();
    }

private:
    std::unique_ptr<simgrid::s4u::Engine> engine_;
};

} // namespace seqpar::detail::simulated
