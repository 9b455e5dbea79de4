#include "simulation_trace.hpp"

#include "units.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/version.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstddef>

namespace seqpar::tool {
namespace {

/// Whole nanoseconds, so that what ends when something begins does not overlap it.
[[nodiscard]] std::string microseconds(timeline::clock::duration d) {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
    return fmt::format("{}.{:03}", ns / 1000, ns % 1000);
}

} // namespace

simulation_trace::simulation_trace(const std::string& path) : to_(path), out_(to_.beside()) {
    out_ << "{\"displayTimeUnit\": \"ms\",\n\"otherData\": "
         << nlohmann::json{{"seqpar", version_string}, {"times", "simulated"}}.dump() << ",\n\"traceEvents\": [\n";
}

void simulation_trace::append(const std::string& event) {
    if (!first_) out_ << ",\n";
    first_ = false;
    out_ << event;
}

void simulation_trace::begin(const std::string& strategy, int ranks) {
    ++process_;
    append(fmt::format(R"({{"ph":"M","name":"process_name","pid":{},"args":{}}})", process_,
                       nlohmann::json{{"name", strategy}}.dump()));
    for (int rank = 0; rank < ranks; ++rank) {
        append(fmt::format(R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":"rank {}"}}}})",
                           process_, rank, rank));
        append(fmt::format(R"({{"ph":"M","name":"thread_sort_index","pid":{},"tid":{},"args":{{"sort_index":{}}}}})",
                           process_, rank, rank));
    }
}

void simulation_trace::write(int rank, std::span<const timeline::span> spans) {
    using category = timeline::category;
    for (const timeline::span& s : spans) {
        const bool computes = s.what == category::kernel;
        if (!computes && s.what != category::wait) continue; // passes enclose these, exchanges go on beside them
        if (s.end <= s.begin) continue;
        ++events_;
        append(fmt::format(R"({{"ph":"X","cat":"{}","name":"{}","pid":{},"tid":{},"ts":{},"dur":{}}})",
                           computes ? "kernel" : "wait", computes ? s.name.text() : "wait", process_, rank,
                           microseconds(s.begin.time_since_epoch()), microseconds(s.end - s.begin)));
    }
}

std::string simulation_trace::finish() {
    out_ << "\n]}\n" << std::flush;
    const auto bytes = static_cast<std::size_t>(out_.tellp());
    if (!out_) throw refusal(to_.path() + ": cannot be written: the disk did not take all of it");
    out_.close();
    to_.commit();
    return fmt::format("{}: what each rank did when, {} spans, {}, for ui.perfetto.dev or chrome://tracing\n",
                       to_.path(), events_, bytes_text(bytes));
}

} // namespace seqpar::tool
