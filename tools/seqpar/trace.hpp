#pragma once

#include "output_file.hpp"

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/communicator.hpp>
#include <seqpar/core/time_shares.hpp>
#include <seqpar/core/timeline.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::tool {

/// What the ranks of one strategy did, all by the clock of rank 0.
struct run_trace {
    std::string strategy;
    std::vector<std::vector<timeline::span>> of_ranks;
    std::chrono::nanoseconds clock_doubt{0}; ///< by which ranks on other machines may be off, at most
};

/// How far a clock is ahead of that of rank 0, and the largest error of that.
struct clock_difference {
    std::chrono::nanoseconds ahead{0}, doubt{0};
};

/// The differences of all ranks, on rank 0; elsewhere zeros. Collective: rank 0 asks each of the others for its time, and
/// believes the quickest answer of several. Source: Cristian 1989.
template <communicator C>
[[nodiscard]] std::vector<clock_difference> compare_clocks(C& comm) {
    using clock = timeline::clock;
    constexpr int questions = 8;
    std::vector<clock_difference> all(static_cast<std::size_t>(comm.size()));
    const std::byte question{1};
    if (comm.rank() != 0) {
        for (int i = 0; i < questions; ++i) {
            std::byte asked{};
            comm.exchange({}, 0, {&asked, 1}, 0).wait();
            const clock::time_point now = clock::now();
            comm.exchange({reinterpret_cast<const std::byte*>(&now), sizeof now}, 0, {}, 0).wait();
        }
        return all;
    }
    for (int r = 1; r < comm.size(); ++r) {
        clock::duration quickest = clock::duration::max();
        for (int i = 0; i < questions; ++i) {
            clock::time_point theirs;
            const clock::time_point before = clock::now();
            comm.exchange({&question, 1}, r, {}, r).wait();
            comm.exchange({}, r, {reinterpret_cast<std::byte*>(&theirs), sizeof theirs}, r).wait();
            const clock::duration round_trip = clock::now() - before;
            if (round_trip >= quickest) continue;
            quickest = round_trip;
            all[static_cast<std::size_t>(r)] = {theirs - (before + round_trip / 2), round_trip / 2};
        }
        // What the doubt explains is no difference: ranks on one machine have one clock.
        clock_difference& found = all[static_cast<std::size_t>(r)];
        if (found.ahead <= found.doubt && -found.ahead <= found.doubt) found = {};
    }
    return all;
}

/// Brings the spans of all ranks to rank 0, and its clock to them. Collective. Elsewhere it is empty.
template <communicator C>
[[nodiscard]] run_trace gather_trace(C& comm, std::span<const timeline::span> mine) {
    const auto size = static_cast<std::size_t>(comm.size());
    std::vector<std::size_t> counts(size);
    const std::size_t count = mine.size();
    collective::all_gather_doubling(comm, outgoing{reinterpret_cast<const std::byte*>(&count), sizeof count},
                                    reinterpret_cast<std::byte*>(counts.data()));
    run_trace all;
    std::vector<outgoing> out(size);
    std::vector<incoming> in(size);
    out[0] = {reinterpret_cast<const std::byte*>(mine.data()), mine.size_bytes()};
    if (comm.rank() == 0) {
        all.of_ranks.resize(size);
        for (std::size_t r = 0; r < size; ++r) {
            all.of_ranks[r].resize(counts[r]);
            in[r] = {reinterpret_cast<std::byte*>(all.of_ranks[r].data()), counts[r] * sizeof(timeline::span)};
        }
    }
    collective::all_to_all(comm, std::span<const outgoing>(out), std::span<const incoming>(in));

    const std::vector<clock_difference> clocks = compare_clocks(comm);
    for (std::size_t r = 0; r < all.of_ranks.size(); ++r) {
        for (timeline::span& s : all.of_ranks[r]) s.begin -= clocks[r].ahead, s.end -= clocks[r].ahead;
        all.clock_doubt = std::max(all.clock_doubt, clocks[r].doubt);
    }
    return all;
}

/// Chrome's trace event format: a process for each rank of each run, whose time begins at 0 with the first of its ranks.
/// Source: "Trace Event Format", the Chromium project.
[[nodiscard]] std::string trace_json(std::span<const run_trace> runs);

/// Shares of time: of the ranks of one run, at most 16 of them, those that wait longest; of several runs, of each the mean.
[[nodiscard]] std::string trace_text(std::span<const run_trace> runs);

/// Writes the trace, and returns what to tell of it. @throws refusal if the file cannot be written
[[nodiscard]] std::string write_trace(output_file& to, std::span<const run_trace> runs);

} // namespace seqpar::tool
