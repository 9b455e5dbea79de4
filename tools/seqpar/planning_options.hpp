#pragma once

#include "planning_commands.hpp"

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace seqpar::tool {

/// What the command line says of `plan` and of `simulate`, as text.
struct planning_texts {
    std::string tokens, heads, head_dim = "128", batch = "1", ranks, machine, storage = "bfloat16";
    std::optional<std::string> kv_heads, window, json;
    bool causal = false, train = false;
};
struct plan_texts {
    std::optional<std::string> strategy, layout;
    planning_texts of;
    std::string top = "10";
};
struct simulate_texts {
    planning_texts of;
    std::string strategy, layout = "contiguous";
    std::optional<std::string> save, trace;
};

/// Add the commands to the program.
void add_plan(CLI::App& program, plan_texts& to);
void add_simulate(CLI::App& program, simulate_texts& to);
/// @throws refusal for what is out of range, unknown, or does not go together
[[nodiscard]] plan_command read(const plan_texts& from);
[[nodiscard]] simulate_command read(const simulate_texts& from);

} // namespace seqpar::tool
