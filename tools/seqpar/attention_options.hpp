#pragma once

#include "settings.hpp"

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace seqpar::tool {

/// What the command line says of `attend`, `verify` and `compare`, as text: what is wrong with it is said in the same words
/// everywhere.
struct attention_texts {
    std::string q, k, v, layout = "contiguous", kernel = "flash", format = "bshd", threads = "auto";
    std::optional<std::string> out, lse, json, trace, strategy, ranks, scale, storage, dout, dlse, grads, save, against,
        sample;
    bool reproducible = false;
    score_texts score;
};

/// Adds the command `name` to the program.
void add_attention(CLI::App& program, attention_texts& to, const char* name, const char* description);
/// @throws refusal for what is out of range, unknown, or does not go together
[[nodiscard]] attention_command read(const attention_texts& from, attention_command::kind what);

} // namespace seqpar::tool
