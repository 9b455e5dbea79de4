#include "comparison.hpp"
#include "text_table.hpp"
#include "units.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::tool {
namespace {

[[nodiscard]] std::string number(std::size_t n) { return std::to_string(n); }

/// The most of any rank as counted, and how that stands to what was predicted.
[[nodiscard]] std::string against_prediction(const accounts& cost, std::size_t plan::cost::*what, bool tolerant,
                                             std::string (*text)(std::size_t)) {
    const std::size_t counted = cost.of(&account::counted, what).largest,
                      predicted = cost.of(&account::predicted, what).largest;
    if (cost.exact(what)) return text(counted) + " =";
    const bool near = tolerant && cost.faults().empty();
    return fmt::format("{} {} {}", text(counted), near ? "~" : "!=", text(predicted));
}

[[nodiscard]] std::vector<std::string> cost_cells(const std::string& strategy, const accounts& cost, double serial) {
    const double time = cost.seconds();
    return {strategy,
            seconds_text(time),
            time > 0 ? fmt::format("{:.2f}x", serial / time) : "-",
            against_prediction(cost, &plan::cost::bytes, false, bytes_text),
            against_prediction(cost, &plan::cost::messages, false, number),
            against_prediction(cost, &plan::cost::memory, true, bytes_text)};
}

} // namespace

std::string comparison::text() const {
    std::string all = fmt::format("{}; scale {:.4g}\n{}; layout {}; kernel {}\n", describe(shape, type), scale, score,
                                  layout, kernel);
    all += fmt::format("{} ({}) of {}, on {}; serial on 1 rank\n\n", ranks_text(ranks), world,
                       plural(static_cast<std::size_t>(threads_per_rank), "thread"),
                       plural(static_cast<std::size_t>(cores), "core"));
    const bool both =
        std::any_of(rows.begin(), rows.end(), [](const comparison_row& r) { return r.backward.has_value(); });
    std::vector<std::vector<std::string>> table{{both ? "forward" : "strategy", "time", "speed", "sent", "messages",
                                                 "memory", "max error", "of bound", "rows judged", "verdict"}};
    const double serial = rows.empty() ? 0 : rows.front().cost.seconds();
    for (const comparison_row& row : rows) {
        const report& r = row.judged;
        std::vector<std::string> cells = cost_cells(row.strategy, row.cost, serial);
        cells.insert(cells.end(), {fmt::format("{:.2e}", r.max_abs_error), fmt::format("{:.3f}", r.worst_ratio),
                                   r.rows_judged == r.rows ? fmt::format("all {}", r.rows)
                                                           : fmt::format("{} of {}", r.rows_judged, r.rows),
                                   row.forward_verified() ? "verified" : "FAILED"});
        table.push_back(std::move(cells));
    }
    all += text_table(table);
    if (both) {
        table = {
            {"backward", "time", "speed", "sent", "messages", "memory", "max error", "of bound", "judged", "verdict"}};
        const double serial_back = rows.front().backward ? rows.front().backward->cost.seconds() : 0;
        for (const comparison_row& row : rows) {
            if (!row.backward) continue;
            const gradient_report& g = row.backward->judged;
            index_t judged = 0, elements = 0;
            for (const gradient_verdict& v : g.of) judged += v.judged, elements += v.elements;
            std::vector<std::string> cells = cost_cells(row.strategy, row.backward->cost, serial_back);
            cells.insert(cells.end(), {fmt::format("{:.2e}", g.max_abs_error()), fmt::format("{:.3f}", g.worst_ratio()),
                                       judged == elements ? std::string("all")
                                                          : fmt::format("{:.2g}%", 100.0 * static_cast<double>(judged) /
                                                                                       static_cast<double>(elements)),
                                       row.backward_verified() ? "verified" : "FAILED"});
            table.push_back(std::move(cells));
        }
        all += '\n' + text_table(table);
    }
    all += "\nspeed: against serial. sent, messages, memory: the most of any rank, as counted; = as predicted, to the "
           "last one\n"
           "(~ nearly). memory: at the peak, beyond the rank's own tensors. max error: against the definition in "
           "double.\n";
    if (both)
        all += fmt::format("backward: the gradients of all inputs; {}.\n",
                           save == "keep" ? "what forward has moved is kept, and counts as memory of both"
                                          : "what forward has moved is sent again");

    std::vector<std::string> failed;
    for (const comparison_row& row : rows) {
        if (row.verified()) continue;
        failed.push_back(row.strategy);
        for (const std::string& fault : row.cost.faults()) all += fmt::format("{}: {}\n", row.strategy, fault);
        if (!row.judged.passed) all += fmt::format("{}: {}\n", row.strategy, row.judged.text());
        if (row.backward_verified()) continue;
        for (const std::string& fault : row.backward->cost.faults())
            all += fmt::format("{}: backward: {}\n", row.strategy, fault);
        if (!row.backward->judged.passed)
            all += fmt::format("{}: backward: {}\n", row.strategy, row.backward->judged.text());
    }
    if (failed.empty()) return all + fmt::format("all {} schemes verified\n", rows.size());
    return all + fmt::format("FAILED: {} of {} schemes: {}\n", failed.size(), rows.size(), fmt::join(failed, ", "));
}

} // namespace seqpar::tool
