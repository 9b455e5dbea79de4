#pragma once

#include "settings.hpp"

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace seqpar::tool {

/// What the command line says of `embed`, as text: what is wrong with it is said in the same words everywhere.
struct embed_texts {
    std::string text, directory, heads, head_dim, seed = "1";
    std::optional<std::string> kv_heads, max_tokens;
};

/// Adds the command to the program.
void add_embed(CLI::App& program, embed_texts& to);
/// @throws refusal for what is out of range
[[nodiscard]] embed_command read(const embed_texts& from);

} // namespace seqpar::tool
