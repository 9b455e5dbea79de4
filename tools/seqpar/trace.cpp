#include "trace.hpp"

#include "text_table.hpp"
#include "units.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/version.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <numeric>

namespace seqpar::tool {
namespace {

using json = nlohmann::ordered_json;
using category = timeline::category;

/// Rows of a rank. Spans of one row nest or do not overlap; exchanges do, and are asynchronous events, which have none.
/// Viewers call the row whose number is that of its process the main one: these are above any rank's.
enum row { passes = 10001, kernel, waiting };

[[nodiscard]] std::string rank_name(std::span<const run_trace> runs, const run_trace& run, std::size_t rank) {
    return runs.size() > 1 ? fmt::format("{}: rank {}", run.strategy, rank) : fmt::format("rank {}", rank);
}

[[nodiscard]] double microseconds(timeline::clock::duration d) {
    return std::chrono::duration<double, std::micro>(d).count();
}

/// The events of a run, appended one by one.
class events {
public:
    void rank(int process, const std::string& name, std::span<const timeline::span> spans,
              timeline::clock::time_point zero) {
        process_ = process, zero_ = zero;
        metadata("process_name", 0, {{"name", name}});
        metadata("process_sort_index", 0, {{"sort_index", process}});
        for (const auto& [thread, text] :
             {std::pair(row::passes, "attention"), std::pair(row::kernel, "kernel"), std::pair(row::waiting, "wait")}) {
            metadata("thread_name", thread, {{"name", text}});
            metadata("thread_sort_index", thread, {{"sort_index", static_cast<int>(thread)}});
        }
        for (const timeline::span& s : spans) add(s);
    }
    [[nodiscard]] std::string text() const { return fmt::format("[\n{}\n]", fmt::join(all_, ",\n")); }

private:
    void append(const json& event) { all_.push_back(event.dump()); }

    void metadata(const char* what, int thread, const json& args) {
        append({{"ph", "M"}, {"name", what}, {"pid", process_}, {"tid", thread}, {"args", args}});
    }
    void complete(const timeline::span& s, row in, const char* kind, const std::string& name, const json& args) {
        json event{{"ph", "X"},
                   {"cat", kind},
                   {"name", name},
                   {"pid", process_},
                   {"tid", static_cast<int>(in)},
                   {"ts", microseconds(s.begin - zero_)},
                   {"dur", microseconds(s.end - s.begin)}};
        if (!args.empty()) event["args"] = args;
        append(event);
    }
    void asynchronous(const timeline::span& s, const json& args) {
        const std::string id = fmt::format("{:#x}", ++exchanges_);
        const auto event = [&](const char* phase, timeline::clock::time_point when) {
            return json{{"ph", phase},
                        {"cat", "exchange"},
                        {"name", s.name.text()},
                        {"id2", {{"local", id}}}, // local: viewers show it with its rank
                        {"pid", process_},
                        {"tid", static_cast<int>(row::waiting)},
                        {"ts", microseconds(when - zero_)}};
        };
        json begin = event("b", s.begin);
        begin["args"] = args;
        append(begin);
        append(event("e", s.end));
    }

    void add(const timeline::span& s) {
        const std::string name(s.name.text()), of = name == "exchange" ? "" : " " + name;
        json moved = json::object();
        if (s.moved.sent != 0) moved["sent bytes"] = s.moved.sent;
        if (s.moved.to >= 0) moved["to rank"] = s.moved.to;
        if (s.moved.received != 0) moved["received bytes"] = s.moved.received;
        if (s.moved.from >= 0) moved["from rank"] = s.moved.from;
        switch (s.what) {
        case category::pass:
            return complete(s, row::passes, "pass", name, json::object());
        case category::kernel:
            return complete(s, row::kernel, "kernel", name,
                            {{"batch", s.computed.batch},
                             {"rows", s.computed.rows},
                             {"keys", s.computed.keys},
                             {"heads", s.computed.heads}});
        case category::collective:
            return complete(s, row::waiting, "collective", name, moved);
        case category::post:
            return complete(s, row::waiting, "post", "post" + of, json::object());
        case category::wait:
            return complete(s, row::waiting, "wait", "wait" + of, json::object());
        case category::exchange:
            return asynchronous(s, moved);
        }
    }

    std::vector<std::string> all_;
    timeline::clock::time_point zero_;
    int process_ = 0;
    std::size_t exchanges_ = 0;
};

[[nodiscard]] timeline::clock::time_point first_begin(const run_trace& run) {
    auto first = timeline::clock::time_point::max();
    for (const auto& spans : run.of_ranks)
        for (const timeline::span& s : spans) first = std::min(first, s.begin);
    return first;
}

[[nodiscard]] std::string percent(double share) { return fmt::format("{:.1f}%", 100 * share); }

[[nodiscard]] std::vector<std::string> cells(const std::string& of, const time_shares& s) {
    return {of, percent(s.kernel_share()), percent(s.waiting_share()),
            percent(std::max(0.0, 1 - s.kernel_share() - s.waiting_share())),
            s.exchange > 0 ? percent(s.overlap()) : "-"};
}

} // namespace

std::string trace_json(std::span<const run_trace> runs) {
    events all;
    json ranks = json::array();
    double doubt = 0;
    int process = 0;
    for (const run_trace& run : runs) {
        const auto zero = first_begin(run);
        doubt = std::max(doubt, microseconds(run.clock_doubt));
        for (std::size_t r = 0; r < run.of_ranks.size(); ++r) {
            const std::string name = rank_name(runs, run, r);
            all.rank(process++, name, run.of_ranks[r], zero);
            const time_shares s = shares_of(run.of_ranks[r]);
            ranks.push_back({{"name", name},
                             {"strategy", run.strategy},
                             {"rank", r},
                             {"seconds", s.whole},
                             {"kernel_seconds", s.kernel},
                             {"wait_seconds", s.waiting},
                             {"exchange_seconds", s.exchange},
                             {"overlapped_seconds", s.covered}});
        }
    }
    const json other{{"seqpar", version_string}, {"clock_doubt_us", doubt}, {"ranks", ranks}};
    return fmt::format("{{\"displayTimeUnit\": \"ms\",\n\"otherData\": {},\n\"traceEvents\": {}}}\n", other.dump(),
                       all.text());
}

std::string trace_text(std::span<const run_trace> runs) {
    constexpr std::size_t most = 16;
    std::vector<std::vector<std::string>> table{
        {runs.size() > 1 ? "mean of ranks" : "", "kernel", "wait", "other", "overlap"}};
    if (runs.size() != 1) {
        for (const run_trace& run : runs) {
            time_shares sum;
            for (const auto& spans : run.of_ranks) sum += shares_of(spans);
            table.push_back(cells(run.strategy, sum));
        }
        return text_table(table);
    }
    std::vector<time_shares> shares;
    for (const auto& spans : runs.front().of_ranks) shares.push_back(shares_of(spans));
    std::vector<std::size_t> shown(shares.size());
    std::iota(shown.begin(), shown.end(), std::size_t{0});
    if (shown.size() > most) {
        std::stable_sort(shown.begin(), shown.end(), [&](std::size_t a, std::size_t b) {
            return shares[a].waiting_share() > shares[b].waiting_share();
        });
        shown.resize(most);
        table.front().front() = fmt::format("{} of {}", most, shares.size());
    }
    for (const std::size_t r : shown) table.push_back(cells(rank_name(runs, runs.front(), r), shares[r]));
    return text_table(table);
}

std::string write_trace(output_file& to, std::span<const run_trace> runs) {
    std::ofstream file(to.beside());
    file << trace_json(runs) << std::flush;
    if (!file) throw refusal(to.path() + ": cannot be written: the disk did not take all of it");
    to.commit();
    return fmt::format("{}: what each rank did when, for chrome://tracing or ui.perfetto.dev\n{}", to.path(),
                       trace_text(runs));
}

} // namespace seqpar::tool
