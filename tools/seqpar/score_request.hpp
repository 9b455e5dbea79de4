#pragma once

#include <seqpar/core/shape.hpp>
#include <seqpar/score/alignment.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace seqpar::tool {

/// What the options of a score are given as.
struct score_texts {
    bool causal = false;
    std::optional<std::string> window, align, q_offset;
    std::optional<std::string> softcap, alibi, sinks, bias, documents, documents_q, documents_k, dropout, seed;
};

/// A score that is asked for: its numbers, and the names of the files that it needs.
struct score_request {
    bool causal = false;
    alignment align;
    std::optional<sliding_window> window;
    std::optional<double> softcap, dropout;
    std::uint64_t seed = 0;
    std::optional<std::string> alibi; ///< a file, or auto
    std::optional<std::string> sinks, bias, documents_q, documents_k;

    /// @throws refusal if a text is not what its option takes, or options do not go together
    [[nodiscard]] static score_request parse(const score_texts& from);
};

/// A score, and what holds the arrays that it looks into.
struct loaded_score {
    any_score score;
    std::shared_ptr<const void> owner;
};

/// Reads the files. @throws refusal, with the path, if one is not what it should be or does not fit the attention
[[nodiscard]] loaded_score load_score(const score_request& of, const attention_shape& shape);

} // namespace seqpar::tool
