#pragma once

#include "request.hpp"

#include "tools/seqpar/npy.hpp"

#include <seqpar/score/any_score.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// "documents:8" is ("documents", 8); "full" is ("full", 0).
[[nodiscard]] inline std::pair<std::string, seqpar::index_t> named_number(const std::string& text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos) return {text, 0};
    try {
        return {text.substr(0, colon), std::stol(text.substr(colon + 1))};
    } catch (const std::logic_error&) {
        throw seqpar::refusal("score '" + text + "': a whole number belongs behind the colon");
    }
}

[[nodiscard]] inline seqpar::any_score score_of(const request& r) {
    using namespace seqpar;
    const auto [name, number] = named_number(r.score);
    if (name == "full") return full{};
    if (name == "causal") return causal{};
    if (name == "window") return sliding_window{number, 0};
    if (name == "documents" && number >= 1) {
        std::vector<index_t> boundaries;
        for (index_t d = 0; d <= number; ++d) boundaries.push_back(d * r.tokens / number);
        return documents{boundaries} & causal{};
    }
    throw refusal("score '" + r.score + "' is unknown: allowed are full, causal, window:L, documents:n");
}

/// How much useful work one repetition is: scores that are seen, times the multiply-adds of each; for decode, what must be
/// read. exp, packing and hidden scores count as nothing. The one place that says so.
struct useful_work {
    double flops = 0, bytes = 0;

    [[nodiscard]] static useful_work of(const request& r) {
        using namespace seqpar;
        const std::size_t element = r.type == "double" ? 8 : r.type == "bfloat16" ? 2 : 4;
        if (r.work == "decode")
            return {0, static_cast<double>(2 * r.keys * r.kv_heads * r.dim) * static_cast<double>(element)};
        const any_score score = score_of(r);
        double pairs = 0;
        for (index_t i = 0; i < r.tokens; ++i) {
            const interval sight = score.visible({r.tokens, r.keys}, position{i}, run{position{0}, 1, r.keys});
            pairs += static_cast<double>(sight.last - sight.first);
        }
        return {(r.backward() ? 10 : 4) * pairs * static_cast<double>(r.heads * r.dim), 0};
    }
};

/// Q, K, V and, for backward, DOUT, of the whole sequence, aligned as a tensor is.
template <class T>
struct arrays {
    seqpar::tensor<T> q, k, v, dout;

    explicit arrays(const request& r) {
        using namespace seqpar;
        const auto load = [&](const char* name, const extents& want) {
            const std::string path = r.inputs + "/" + name;
            const auto header = tool::check_npy(path, {{tool::npy_type::float32}, 4, "[1, seq, heads, head_dim]"});
            const auto array = tool::load_npy<T>(path, header, format::bshd);
            if (array.view.shape() != want)
                throw refusal(detail::concat(path, " is ", array.view.shape(), ": asked for is ", want));
            tensor<T> to(want);
            copy(array.view, to.view());
            return to;
        };
        const extents rows{1, r.tokens, r.heads, r.dim}, keys{1, r.keys, r.kv_heads, r.dim};
        q = load("q.npy", rows), k = load("k.npy", keys), v = load("v.npy", keys);
        if (r.backward()) dout = load("dout.npy", rows);
    }
};

/// The scale of q . k.
[[nodiscard]] inline double scale_of(const request& r) { return 1 / std::sqrt(static_cast<double>(r.dim)); }

/// Writes a dense [1, seq, heads, head_dim] as DIR/name.
template <class T>
void write_array(const std::string& directory, const char* name, const seqpar::tensor<T>& x) {
    const seqpar::extents& e = x.shape();
    const std::array<std::size_t, 4> shape{static_cast<std::size_t>(e.batch), static_cast<std::size_t>(e.seq),
                                           static_cast<std::size_t>(e.heads), static_cast<std::size_t>(e.dim)};
    const std::string path = directory + "/" + name;
    seqpar::tool::save_npy<T>(path, x.data(), shape, path);
}

} // namespace bench
