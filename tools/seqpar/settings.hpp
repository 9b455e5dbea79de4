#pragma once

#include "score_request.hpp"
#include "strategy_name.hpp"

#include <seqpar/attention/options.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/score/any_score.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace seqpar::tool {

/// In what type q, k, v and the results are held. float16 is judged, not computed in.
enum class storage_type { float32, float64, bfloat16, float16 };

/// What an attention is, apart from its inputs and its ranks.
struct attention_settings {
    any_layout layout;
    any_score score;
    any_kernel kernel;
    std::string kernel_text;   ///< its name and what it runs on: "flash (avx512)"
    bool reproducible = false; ///< the kernel `reproducible` takes the place of `kernel`
    std::optional<double> scale;
    format order = format::bshd;         ///< of Q, K, V, OUT, DOUT and the gradients
    std::optional<int> threads_per_rank; ///< none, until there are ranks: as many as leave no core with two
    saving save = saving::resend;
    bool trace = false; ///< write down what each rank does when
    index_t sample = 0; ///< rows that are compared with the definition; 0: what the judges' budget affords
};

/// The kernel of those settings, as the type that the program is instantiated for: any_kernel or another one.
template <class Kernel>
[[nodiscard]] Kernel kernel_of(const attention_settings& how) {
    if constexpr (std::is_same_v<Kernel, any_kernel>)
        return how.kernel;
    else
        return Kernel{};
}

/// The command `attend Q K V -o OUT`, and `verify` and `compare`, which are like it.
struct attention_command {
    enum class kind { attend, verify, compare } what = kind::attend;
    std::string q, k, v;
    std::optional<std::string> out, lse, json, trace;
    std::optional<std::string>
        against; ///< of verify: judge this OUT, and lse and grads, which another program has made
    std::vector<strategy_name> strategies; ///< one; of compare, those asked for, or none: all that apply
    std::optional<int> ranks;
    std::optional<std::string> dout, dlse, grads; ///< of backward: files, and the directory of gradients
    score_request score;                          ///< how.score, once its files are loaded
    std::optional<storage_type> storage;          ///< none: the files' own type
    attention_settings how;
};

/// The command `embed TEXTFILE -o DIR`.
struct embed_command {
    std::string text, directory;
    index_t heads = 0, kv_heads = 0, head_dim = 0;
    std::optional<index_t> max_tokens;
    std::uint64_t seed = 1;
};

/// The command `machines [MACHINE]`.
struct machines_command {
    std::optional<std::string> machine; ///< none: list them
};

/// The command `calibrate [-o FILE.json]`.
struct calibrate_command {
    std::optional<std::string> out;
    std::optional<int> ranks;
};

} // namespace seqpar::tool
