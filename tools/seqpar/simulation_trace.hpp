#pragma once

#include "output_file.hpp"

#include <seqpar/core/timeline.hpp>

#include <cstdint>
#include <fstream>
#include <span>
#include <string>

namespace seqpar::tool {

/// Chrome's trace event format, written while a simulation runs: a process for each strategy, in it a row for each rank, of what
/// it computes and what it waits for. Times are simulated, from the begin of the run. Holds no span.
class simulation_trace {
public:
    /// @throws refusal as output_file
    explicit simulation_trace(const std::string& path);

    /// A strategy begins: what is written from now on is of it.
    void begin(const std::string& strategy, int ranks);
    void write(int rank, std::span<const timeline::span> spans);

    /// Completes the file, and returns what to tell of it. @throws refusal if it could not be written
    [[nodiscard]] std::string finish();
    [[nodiscard]] const output_file& file() const noexcept { return to_; }

private:
    void append(const std::string& event);

    output_file to_;
    std::ofstream out_;
    int process_ = -1;
    std::uint64_t events_ = 0; ///< of ranks
    bool first_ = true;
};

} // namespace seqpar::tool
