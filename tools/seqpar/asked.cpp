#include "asked.hpp"

#include "units.hpp"

#include <fmt/format.h>

namespace seqpar::tool {

std::string asked_text(const planning_request& of, const plan::machine& m) {
    return fmt::format("{}\n{}, {}; {} of {}: {}\n", describe(of.work.shape, to_string(of.work.type)),
                       of.work.score.name(), of.work.train ? "forward and backward" : "forward", ranks_text(of.ranks),
                       m.name, m.title);
}

nlohmann::ordered_json asked_json(const planning_request& of, const plan::machine& m) {
    const attention_shape& s = of.work.shape;
    return {{"tokens", s.queries},
            {"heads", s.heads},
            {"kv_heads", s.kv_heads},
            {"head_dim", s.dim},
            {"batch", s.batch},
            {"score", of.work.score.name()},
            {"train", of.work.train},
            {"storage", to_string(of.work.type)},
            {"ranks", of.ranks},
            {"machine", {{"name", m.name}, {"title", m.title}, {"ranks", m.ranks()}, {"memory_bytes", m.memory}}}};
}

std::string simulate_line(const planning_request& of, const std::string& strategy, const std::string& layout,
                          bool keep) {
    const attention_shape& s = of.work.shape;
    std::string line = fmt::format("seqpar simulate --strategy {} --layout {} --tokens {} --heads {} --kv-heads {} "
                                   "--head-dim {} --batch {} --ranks {} --machine {}",
                                   strategy, layout, count_text(s.queries), s.heads, s.kv_heads, s.dim, s.batch,
                                   count_text(of.ranks), of.machine);
    if (of.causal) line += " --causal";
    if (of.window) line += " --window " + *of.window;
    if (of.work.train) line += fmt::format(" --train --save {}", keep ? "keep" : "resend");
    if (of.work.type != storage::bfloat16) line += fmt::format(" --storage {}", to_string(of.work.type));
    return line;
}

} // namespace seqpar::tool
