#include "verdict.hpp"

#include <seqpar/version.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace seqpar::tool {
namespace {

using nlohmann::ordered_json;

[[nodiscard]] ordered_json of(const std::vector<array_verdict::range>& ranges) {
    ordered_json all = ordered_json::array();
    for (const auto& r : ranges) all.push_back({r.first, r.last});
    return all;
}

/// Numbers that are not finite are null.
[[nodiscard]] ordered_json of(const array_verdict& v) {
    const auto& w = v.worst;
    return {{"array", v.name},
            {"elements", v.shape.count()},
            {"judged", v.judged},
            {"off", v.off},
            {"not_finite", v.not_finite},
            {"max_abs_error", v.max_abs_error},
            {"serial_error", v.serial_error},
            {"worst",
             {{"batch", w.batch},
              {"row", w.row},
              {"head", w.head},
              {"component", w.component},
              {"value", w.value},
              {"right", w.right},
              {"error", w.error},
              {"bound", w.bound},
              {"share_of_bound", w.ratio},
              {"by_the_definition", w.defined}}},
            {"where",
             {{"batches", of(v.batches)},
              {"rows", of(v.rows)},
              {"heads", of(v.heads)},
              {"components", of(v.components)},
              {"filled", v.filled}}},
            {"patterns", v.patterns},
            {"verified", v.passed()}};
}

} // namespace

std::string verdict::json() const {
    ordered_json all;
    all["seqpar"] = version_string;
    all["shape"] = {{"batch", shape.batch},     {"queries", shape.queries},   {"keys", shape.keys},
                    {"heads", shape.heads},     {"kv_heads", shape.kv_heads}, {"head_dim", shape.dim},
                    {"head_dim_v", shape.dim_v}};
    all["judged_as"] = {{"type", type}, {"score", score}, {"scale", scale}, {"ranks", ranks}};
    all["arrays"] = ordered_json::array();
    for (const array_verdict& v : judged.of) all["arrays"].push_back(of(v));
    all["verified"] = judged.passed();
    return all.dump(2) + '\n';
}

} // namespace seqpar::tool
