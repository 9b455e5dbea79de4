#pragma once

#include "planning_commands.hpp"

#include <seqpar/plan/cost.hpp>
#include <seqpar/plan/machine.hpp>
#include <seqpar/planning/estimate.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace seqpar::tool {

/// One pass of a strategy as it was simulated, and as the closed form has it.
struct simulated_row {
    double seconds = 0;
    std::vector<double> busy;                            ///< of each rank, the share of the time in which it computes
    std::vector<std::size_t> bytes, messages;            ///< sent by each rank
    std::size_t inside_bytes = 0, inside_messages = 0;   ///< of all ranks, within nodes
    std::size_t between_bytes = 0, between_messages = 0; ///< and between them
    pass_time predicted;
    plan::cost predicted_cost; ///< the largest of a rank

    [[nodiscard]] double ratio() const noexcept { return seconds > 0 ? predicted.whole / seconds : 1; }
};

struct simulated_scheme {
    std::string strategy;
    simulated_row forward;
    std::optional<simulated_row> backward;
    std::size_t memory = 0; ///< peak of a rank, by the closed form
    double took = 0;        ///< seconds that the simulation took here
};

/// What `simulate` found.
struct simulated_schemes {
    planning_request asked;
    plan::machine machine;
    std::string layout;
    std::vector<simulated_scheme> all;

    [[nodiscard]] std::string text() const;
    [[nodiscard]] std::string json() const;
};

} // namespace seqpar::tool
