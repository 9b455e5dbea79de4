#pragma once

#include "account.hpp"
#include "settings.hpp"

#include <seqpar/core/shape.hpp>
#include <seqpar/verify/gradient_report.hpp>
#include <seqpar/verify/report.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace seqpar::tool {

/// What compare found of one strategy.
struct comparison_row {
    std::string strategy;
    accounts cost;
    report judged;

    struct backward_part {
        accounts cost;
        gradient_report judged;
    };
    std::optional<backward_part> backward; ///< where a DOUT was given

    [[nodiscard]] bool forward_verified() const { return judged.passed && cost.faults().empty(); }
    [[nodiscard]] bool backward_verified() const {
        return !backward || (backward->judged.passed && backward->cost.faults().empty());
    }
    [[nodiscard]] bool verified() const { return forward_verified() && backward_verified(); }
};

/// The whole of compare: what was computed, on what, and a row for each strategy, serial first.
struct comparison {
    attention_shape shape;
    std::string type, world;
    int ranks = 1, threads_per_rank = 1;
    int cores = 1; ///< that the ranks on this machine may use
    std::string layout, score, kernel;
    std::string save; ///< what forward keeps for backward; empty: there is none
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
