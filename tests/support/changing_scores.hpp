/// @file
/// Scores that change values, each as the library has it and as the oracle knows it. Needs Random123.
#pragma once

#include "naive_score.hpp"
#include "random.hpp"

#include <seqpar/score/alibi.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/bias.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/dropout.hpp>
#include <seqpar/score/score_function.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/score/softcap.hpp>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace seqpar::testing {

struct changing_score {
    any_score library;
    naive_score oracle;
    std::shared_ptr<const void> owner = nullptr; ///< of an array that the score looks into
};

/// Each by itself over every key, then in compositions.
[[nodiscard]] inline std::vector<changing_score> changing_scores(const attention_shape& of) {
    using real = long double;
    const auto everything = [](index_t, index_t) { return true; };
    const auto heads = static_cast<std::size_t>(of.heads);
    std::vector<double> slopes, logits;
    for (std::size_t h = 0; h < heads; ++h) {
        slopes.push_back(0.4 / static_cast<double>(h + 1));
        logits.push_back(h == 1 ? -std::numeric_limits<double>::infinity() : 1.5 - static_cast<double>(h));
    }
    // [1, heads, Nq, Nk], a tenth of it hidden
    const auto array = std::make_shared<tensor<float>>(normal<float>({1, of.heads, of.queries, of.keys}, 77));
    for (index_t n = 0; n < array->shape().count(); ++n)
        if (array->data()[n] > 1.3F) array->data()[n] = -std::numeric_limits<float>::infinity();
    const auto added = [array](index_t, index_t h, index_t i, index_t j) {
        return static_cast<double>((*array)(0, h, i, j));
    };
    // [batch, 1, Nq, Nk]
    const auto size = static_cast<std::size_t>(of.batch * of.queries * of.keys);
    const std::shared_ptr<bool[]> may(new bool[size]);
    for (std::size_t n = 0; n < size; ++n) may.get()[n] = n * 7 % 5 != 0;
    const auto masked = [may, of](index_t b, index_t, index_t i, index_t j) {
        const auto n = static_cast<std::size_t>((b * of.queries + i) * of.keys + j);
        return may.get()[n] ? 0.0 : -std::numeric_limits<double>::infinity();
    };
    const dropout drops(0.3, 11);
    const auto kept = [drops](index_t b, index_t h, index_t i, index_t j) { // one pair at a time
        double z = 0;
        drops.drop(score_row{{}, b, h, position(i), run{position(j), 1, 1}}, std::span<double>(&z, 1));
        return z;
    };
    const auto f = [](double x, index_t, index_t, index_t, index_t) { return x + 0.1 * x * x; };
    const auto df = [](double x, index_t, index_t, index_t, index_t) { return 1 + 0.2 * x; };
    const score_function curve("curve", f, df);
    const auto bent = [](real x) { return x + 0.1L * x * x; };
    const auto bend = [](real x) { return 1 + 0.2L * x; };

    std::vector<changing_score> all;
    const auto with = [&](any_score library, auto change) {
        naive_score truth{everything};
        change(truth);
        all.push_back({std::move(library), std::move(truth)});
    };
    with(softcap(1.5), [](naive_score& t) { t.cap = 1.5; });
    with(alibi(slopes), [&](naive_score& t) { t.slopes = slopes; });
    with(sink(logits), [&](naive_score& t) { t.sinks = logits; });
    with(bias<float>(array->data(), {1, of.heads, of.queries, of.keys}), [&](naive_score& t) { t.bias = added; });
    with(bias<bool>(may.get(), {of.batch, 1, of.queries, of.keys}), [&](naive_score& t) { t.bias = masked; });
    with(drops, [&](naive_score& t) { t.z = kept; });
    with(curve, [&](naive_score& t) { t.function = bent, t.derivative = bend; });

    const auto with_all = [&](const any_score& frame_and_mask, const alignment& align, auto sees, auto distance) {
        with(any_score(drops) & any_score(bias<float>(array->data(), {1, of.heads, of.queries, of.keys})) &
                 frame_and_mask & any_score(sink(logits)) & any_score(alibi(slopes, align)) & any_score(softcap(2)) &
                 any_score(curve),
             [&](naive_score& t) { t = {sees, bent, bend, 2, slopes, logits, distance, added, kept}; });
    };
    with_all(
        any_score(causal{}) & any_score(sliding_window{9, 9}), {},
        [](index_t i, index_t j) { return j <= i && j >= i - 9; },
        [](index_t i, index_t j) { return static_cast<double>(std::abs(i - j)); });
    const index_t shift = of.keys - of.queries;
    with_all(
        any_score(causal{alignment::bottom_right()}), alignment::bottom_right(),
        [shift](index_t i, index_t j) { return j <= i + shift; },
        [shift](index_t i, index_t j) { return static_cast<double>(std::abs(i + shift - j)); });
    if (of.queries >= 20 && of.keys >= 20) {
        // Three documents and padding; causal from the end of each.
        const std::vector<index_t> cu_q{0, 7, 7, 19}, cu_k{0, 10, 12, 20};
        const auto document = [cu_q, cu_k](index_t i, index_t j) {
            for (std::size_t d = 0; d + 1 < cu_q.size(); ++d)
                if (i >= cu_q[d] && i < cu_q[d + 1]) return j >= cu_k[d] && j < cu_k[d + 1] ? static_cast<int>(d) : -1;
            return -1;
        };
        const auto ahead = [cu_q, cu_k](int d, index_t i, index_t j) { // key - query, ends aligned
            const auto n = static_cast<std::size_t>(d);
            return (j - cu_k[n + 1]) - (i - cu_q[n + 1]);
        };
        with_all(
            any_score(documents<>(cu_q, cu_k)) & any_score(causal{alignment::bottom_right()}),
            alignment::bottom_right(),
            [=](index_t i, index_t j) {
                const int d = document(i, j);
                return d >= 0 && ahead(d, i, j) <= 0;
            },
            [=](index_t i, index_t j) {
                const int d = document(i, j);
                return d < 0 ? 0.0 : static_cast<double>(std::abs(ahead(d, i, j)));
            });
    }
    for (changing_score& s : all) s.owner = std::make_shared<std::pair<decltype(array), decltype(may)>>(array, may);
    return all;
}

} // namespace seqpar::testing
