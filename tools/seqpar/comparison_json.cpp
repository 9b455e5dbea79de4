#include "comparison.hpp"
#include "processor.hpp"
#include "units.hpp"

#include <seqpar/version.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <thread>

namespace seqpar::tool {
namespace {

using nlohmann::ordered_json;

[[nodiscard]] ordered_json of(const accounts& cost, std::size_t plan::cost::*what) {
    const accounts::summary counted = cost.of(&account::counted, what), predicted = cost.of(&account::predicted, what);
    return {{"counted", {{"max_per_rank", counted.largest}, {"total", counted.total}}},
            {"predicted", {{"max_per_rank", predicted.largest}, {"total", predicted.total}}},
            {"equal_on_every_rank", cost.exact(what)}};
}

[[nodiscard]] ordered_json of(const report::element& e) {
    return {{"batch", e.batch}, {"row", e.row}, {"head", e.head}, {"component", e.component}};
}

[[nodiscard]] ordered_json of(const comparison_row::backward_part& b, double serial) {
    const double time = b.cost.seconds();
    ordered_json gradients = ordered_json::object();
    for (std::size_t n = 0; n < b.judged.of.size(); ++n) {
        const gradient_verdict& v = b.judged.of[n];
        if (v.elements == 0) continue;
        gradients[gradient_report::names[n]] = {{"elements", v.elements},
                                                {"judged", v.judged},
                                                {"max_abs_error", v.max_abs_error},
                                                {"share_of_bound", v.worst_ratio},
                                                {"max_from_serial", v.max_from_serial},
                                                {"verified", v.passed}};
    }
    return {{"seconds", time},
            {"speed_against_serial", time > 0 ? ordered_json(serial / time) : ordered_json()},
            {"bytes_sent", of(b.cost, &plan::cost::bytes)},
            {"messages_sent", of(b.cost, &plan::cost::messages)},
            {"rounds", of(b.cost, &plan::cost::rounds)},
            {"peak_extra_memory", of(b.cost, &plan::cost::memory)},
            {"max_abs_error", b.judged.max_abs_error()},
            {"share_of_bound", b.judged.worst_ratio()},
            {"gradients", gradients},
            {"faults", b.cost.faults()},
            {"verified", b.judged.passed && b.cost.faults().empty()}};
}

[[nodiscard]] ordered_json of(const comparison_row& row, double serial, double serial_back) {
    const report& r = row.judged;
    const double time = row.cost.seconds();
    ordered_json all = {{"strategy", row.strategy},
                        {"seconds", time},
                        {"speed_against_serial", time > 0 ? ordered_json(serial / time) : ordered_json()},
                        {"bytes_sent", of(row.cost, &plan::cost::bytes)},
                        {"messages_sent", of(row.cost, &plan::cost::messages)},
                        {"rounds", of(row.cost, &plan::cost::rounds)},
                        {"peak_extra_memory", of(row.cost, &plan::cost::memory)},
                        {"max_abs_error", r.max_abs_error},
                        {"max_rel_error", r.max_rel_error},
                        {"rms_error", r.rms_error},
                        {"share_of_bound", r.worst_ratio},
                        {"bound_at_worst", r.bound},
                        {"worst", of(r.worst)},
                        {"max_from_serial", r.max_from_serial},
                        {"same_bits_as_serial", r.same_bits_as_serial},
                        {"rows", r.rows},
                        {"rows_judged", r.rows_judged},
                        {"faults", row.cost.faults()},
                        {"verified", row.verified()}};
    if (row.backward) all["backward"] = of(*row.backward, serial_back);
    return all;
}

} // namespace

std::string comparison::json() const {
    ordered_json all;
    all["seqpar"] = version_string;
    all["machine"] = {{"processor", processor_name()}, {"hardware_threads", std::thread::hardware_concurrency()}};
    all["shape"] = {{"batch", shape.batch},     {"queries", shape.queries},   {"keys", shape.keys},
                    {"heads", shape.heads},     {"kv_heads", shape.kv_heads}, {"head_dim", shape.dim},
                    {"head_dim_v", shape.dim_v}};
    all["scheme"] = {
        {"type", type_text(type)}, {"ranks", ranks}, {"communicator", world}, {"threads_per_rank", threads_per_rank},
        {"layout", layout},        {"score", score}, {"kernel", kernel},      {"scale", scale}};
    if (!save.empty()) all["scheme"]["save"] = save;
    const double serial = rows.empty() ? 0 : rows.front().cost.seconds(),
                 serial_back = rows.empty() || !rows.front().backward ? 0 : rows.front().backward->cost.seconds();
    all["rows"] = ordered_json::array();
    for (const comparison_row& row : rows) all["rows"].push_back(of(row, serial, serial_back));
    all["verified"] = verified();
    return all.dump(2) + '\n';
}

} // namespace seqpar::tool
