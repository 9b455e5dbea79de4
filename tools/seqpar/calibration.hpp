#pragma once

#include "machine_file.hpp"

#include <seqpar/core/tensor.hpp>
#include <seqpar/plan/machine.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace seqpar::tool {

/// What repeats of one measurement gave.
struct measurement {
    std::vector<double> seconds; ///< of one piece of work, one for each repeat

    [[nodiscard]] double median() const;
    /// (largest - smallest) / median
    [[nodiscard]] double spread() const;
};

/// What `calibrate` has measured, with all ranks busy at once.
struct calibration {
    struct rates {
        double forward_flops = 0, backward_flops = 0; ///< of one repeat
        measurement forward, backward;
    };
    struct transfer {
        std::size_t bytes = 0; ///< of a block that each rank sends, and of one that it receives
        measurement time;
    };

    int ranks = 1;
    std::string world; ///< threads or MPI
    index_t rows = 0;  ///< of the rates' problem
    rates float32, float64, bfloat16;
    measurement call;    ///< of the kernel, for one row and one key
    measurement latency; ///< a byte, one way
    std::vector<transfer> transfers;

    /// Named `this`, of one node. Numbers are rounded to four digits.
    [[nodiscard]] plan::machine machine() const;
    [[nodiscard]] machine_sources sources() const;
    /// A table for people.
    [[nodiscard]] std::string text() const;

private:
    [[nodiscard]] double bandwidth(const transfer& t) const;
    [[nodiscard]] bool noisy() const;
    [[nodiscard]] std::string how() const;
};

} // namespace seqpar::tool
