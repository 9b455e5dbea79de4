#pragma once

#include "account.hpp"
#include "settings.hpp"

#include <seqpar/core/shape.hpp>
#include <seqpar/verify/report.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace seqpar::tool {

/// What compare found of one strategy.
struct comparison_row {
    std::string strategy;
    accounts cost;
    report judged;
    [[nodiscard]] bool verified() const { return judged.passed && cost.faults().empty(); }
};

/// The whole of compare: what was computed, on what, and a row for each strategy, serial first.
struct comparison {
    attention_shape shape;
    std::string type, world;
    int ranks = 1, threads_per_rank = 1;
    std::string layout, score, kernel;
    double scale = 1;
    std::vector<comparison_row> rows;

    [[nodiscard]] bool verified() const;
    [[nodiscard]] std::string text() const;
    [[nodiscard]] std::string json() const;
};

/// The strategies that apply to that many ranks and heads: head-parallel over a ring and over an all-gather, too, where the
/// ranks can be split.
[[nodiscard]] std::vector<strategy_name> strategies_that_apply(int ranks, index_t heads);

} // namespace seqpar::tool
