#pragma once

#include "strategy_name.hpp"

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/score/any_score.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace seqpar::tool {

/// What an attention is, apart from its inputs and its ranks.
struct attention_settings {
    any_layout layout;
    any_score score;
    any_kernel kernel;
    std::string kernel_text; ///< its name and what it runs on: "flash (avx512)"
    std::optional<double> scale;
    format order = format::bshd; ///< of Q, K, V and OUT
    int threads_per_rank = 1;
};

/// The command `attend Q K V -o OUT`, and `verify` and `compare`, which are like it.
struct attention_command {
    enum class kind { attend, verify, compare } what = kind::attend;
    std::string q, k, v;
    std::optional<std::string> out, lse, json;
    std::vector<strategy_name> strategies; ///< one; of compare, those asked for, or none: all that apply
    std::optional<int> ranks;
    attention_settings how;
};

/// The command `embed TEXTFILE -o DIR`.
struct embed_command {
    std::string text, directory;
    index_t heads = 0, kv_heads = 0, head_dim = 0;
    std::optional<index_t> max_tokens;
    std::uint64_t seed = 1;
};

} // namespace seqpar::tool
