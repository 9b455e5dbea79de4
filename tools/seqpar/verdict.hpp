#pragma once

#include <seqpar/core/shape.hpp>
#include <seqpar/verify/results.hpp>

#include <string>

namespace seqpar::tool {

/// What judging found of the arrays of another program, and what they were judged as.
struct verdict {
    attention_shape shape;
    std::string type, score;
    int ranks = 1;
    double scale = 1;
    result_report judged;

    [[nodiscard]] std::string json() const;
};

} // namespace seqpar::tool
