#pragma once

#include "calibration.hpp"
#include "kernel_trial.hpp"
#include "progress.hpp"
#include "repeats.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <vector>

namespace seqpar::tool {

template <class T, communicator C>
[[nodiscard]] calibration::rates measure_rates(C& comm, index_t rows) {
    kernel_trial<T> trial(rows);
    calibration::rates all;
    all.forward_flops = trial.forward_flops(), all.backward_flops = trial.backward_flops();
    all.forward = repeats_of(comm, 1, [&] { trial.forward(); });
    all.backward = repeats_of(comm, 1, [&] { trial.backward(); });
    return all;
}

/// A call of the kernel that has next to nothing to do.
template <communicator C>
[[nodiscard]] measurement measure_call(C& comm) {
    constexpr int calls = 300;
    kernel_trial<float> trial(1);
    return repeats_of(comm, calls, [&] {
        for (int n = 0; n < calls; ++n) trial.forward();
    });
}

/// A byte there and back between ranks 0 and 1, 2 and 3, ...; the last of an odd number of ranks has nothing to do. A rank
/// alone talks to itself.
template <communicator C>
[[nodiscard]] measurement measure_latency(C& comm) {
    constexpr int round_trips = 20;
    const int rank = comm.rank(), partner = comm.size() == 1 ? 0 : rank ^ 1;
    std::byte out{1}, in{0};
    return repeats_of(comm, 2 * round_trips, [&] {
        if (partner >= comm.size()) return;
        for (int n = 0; n < round_trips; ++n) {
            if (partner == rank) {
                comm.exchange({&out, 1}, rank, {&in, 1}, rank).wait();
                comm.exchange({&out, 1}, rank, {&in, 1}, rank).wait();
            } else if (rank < partner) {
                comm.exchange({&out, 1}, partner, {}, partner).wait();
                comm.exchange({}, partner, {&in, 1}, partner).wait();
            } else {
                comm.exchange({}, partner, {&in, 1}, partner).wait();
                comm.exchange({&out, 1}, partner, {}, partner).wait();
            }
        }
    });
}

/// Blocks from each rank to the next, on all ranks at once; 16 MiB of them a repeat.
template <communicator C>
[[nodiscard]] calibration::transfer measure_transfer(C& comm, std::size_t bytes) {
    const int rank = comm.rank(), size = comm.size(), next = (rank + 1) % size, before = (rank + size - 1) % size;
    const int blocks = static_cast<int>((std::size_t{16} << 20) / bytes);
    const std::vector<std::byte> out(bytes, std::byte{1});
    std::vector<std::byte> in(bytes);
    return {bytes, repeats_of(comm, blocks, [&] {
                for (int n = 0; n < blocks; ++n)
                    comm.exchange({out.data(), bytes}, next, {in.data(), bytes}, before).wait();
            })};
}

/// All that calibrate measures: the same on every rank. Collective.
template <communicator C>
[[nodiscard]] calibration measure(C& comm, progress& shown) {
    constexpr index_t rows = 2048;
    const auto say = [&](const char* what) {
        if (comm.rank() == 0) shown.say(fmt::format("measuring {}", what));
    };
    calibration all;
    all.ranks = comm.size();
    all.rows = rows;
    say("float32");
    all.float32 = measure_rates<float>(comm, rows);
    say("float64");
    all.float64 = measure_rates<double>(comm, rows);
    say("bfloat16");
    all.bfloat16 = measure_rates<bfloat16>(comm, rows);
    say("messages");
    all.call = measure_call(comm);
    all.latency = measure_latency(comm);
    for (std::size_t bytes = std::size_t{1} << 20; bytes <= std::size_t{16} << 20; bytes *= 4)
        all.transfers.push_back(measure_transfer(comm, bytes));
    return all;
}

} // namespace seqpar::tool
