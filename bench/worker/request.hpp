#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/tensor.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace bench {

/// What a line {"do": "prepare", ...} asks to be made ready. Batch is 1.
struct request {
    std::string work;           ///< forward, backward, decode: the kernel; strategy, strategy_backward: the facade
    std::string type = "float"; ///< float, double, bfloat16
    std::string score = "full"; ///< full, causal, window:L (L keys back, causal), documents:n (n alike, causal inside)
    std::string strategy = "serial"; ///< as on the command line of seqpar
    std::string layout = "contiguous";
    std::string inputs;                   ///< the directory of q, k, v[, dout].npy, [1, seq, heads, head_dim]
    seqpar::index_t tokens = 0, keys = 0; ///< rows of Q; of K and V, default: as many
    seqpar::index_t heads = 1, kv_heads = 0, dim = 0;
    int threads = 1; ///< of the kernel; of each rank
    int ranks = 1;

    /// @throws refusal or nlohmann::json::exception if a line does not say what is needed
    [[nodiscard]] static request parse(const nlohmann::json& line) {
        request r;
        r.work = line.at("work");
        r.type = line.value("type", r.type), r.score = line.value("score", r.score);
        r.strategy = line.value("strategy", r.strategy), r.layout = line.value("layout", r.layout);
        r.inputs = line.at("inputs");
        r.tokens = line.at("tokens"), r.keys = line.value("keys", r.tokens);
        r.heads = line.value("heads", r.heads), r.kv_heads = line.value("kv_heads", r.heads), r.dim = line.at("dim");
        r.threads = line.value("threads", r.threads), r.ranks = line.value("ranks", r.ranks);
        if (r.tokens < 1 || r.keys < 1 || r.dim < 1 || r.heads < 1 || r.kv_heads < 1 || r.heads % r.kv_heads != 0)
            throw seqpar::refusal(
                "prepare: tokens, keys, dim, heads and kv_heads are to be at least 1, heads a multiple "
                "of kv_heads");
        return r;
    }

    [[nodiscard]] bool of_kernel() const { return work == "forward" || work == "backward" || work == "decode"; }
    [[nodiscard]] bool backward() const { return work == "backward" || work == "strategy_backward"; }
};

} // namespace bench
