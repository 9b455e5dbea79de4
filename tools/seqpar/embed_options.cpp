#include "embed_options.hpp"

#include "words.hpp"

#include <seqpar/core/error.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace seqpar::tool {

void add_embed(CLI::App& program, embed_texts& to) {
    CLI::App& c = *program.add_subcommand("embed", "Make q.npy, k.npy, v.npy of the bytes of a text: seeded embedding, "
                                                   "rotary positions, seeded projections");
    c.add_option("TEXTFILE", to.text, "text; a token is a byte")->required()->type_name("");
    c.add_option("-o,--out", to.directory, "directory for q.npy, k.npy, v.npy (float32, [1, tokens, heads, head_dim])")
        ->required()
        ->type_name("DIR");
    c.add_option("--heads", to.heads, "heads of Q")->required()->type_name("H");
    c.add_option("--kv-heads", to.kv_heads, "heads of K and V; heads is a multiple of it (default: heads)")
        ->type_name("G");
    c.add_option("--head-dim", to.head_dim, "length of a head's vectors")->required()->type_name("D");
    c.add_option("--max-tokens", to.max_tokens, "take no more bytes of the text than that (default: all)")
        ->type_name("N");
    c.add_option("--seed", to.seed, "of embedding and projections (default: 1)")->type_name("S");
}

embed_command read(const embed_texts& from) {
    constexpr index_t most = 1 << 20;
    embed_command to;
    to.text = from.text;
    to.directory = from.directory;
    to.heads = whole_number("--heads", from.heads, 1, most);
    to.kv_heads = from.kv_heads ? whole_number("--kv-heads", *from.kv_heads, 1, most) : to.heads;
    if (to.heads % to.kv_heads != 0) {
        index_t near = std::min(to.kv_heads, to.heads);
        while (to.heads % near != 0) --near;
        throw refusal(fmt::format("--heads {} is no multiple of --kv-heads {}: nearest that fits is --kv-heads {}",
                                  to.heads, to.kv_heads, near));
    }
    to.head_dim = whole_number("--head-dim", from.head_dim, 1, most);
    if (from.max_tokens) to.max_tokens = whole_number("--max-tokens", *from.max_tokens, 0, index_t{1} << 40);
    to.seed = static_cast<std::uint64_t>(whole_number("--seed", from.seed, 0, std::numeric_limits<index_t>::max()));
    return to;
}

} // namespace seqpar::tool
