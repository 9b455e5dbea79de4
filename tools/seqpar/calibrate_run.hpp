/// @file
/// What calibrate.hpp declares, for the files that compile it for a world.
#pragma once

#include "calibrate.hpp"
#include "calibration.hpp"
#include "in_agreement.hpp"
#include "measure.hpp"
#include "output_file.hpp"
#include "progress.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <optional>
#include <utility>

namespace seqpar::tool {

template <class World>
int calibrate(World& world, const calibrate_command& c) {
    if (const int here = world.ranks_here(); here != world.ranks())
        throw refusal(
            fmt::format("calibrate describes one machine, and of the {} ranks of this MPI job {} are on this one: "
                        "start it with mpirun -n {} on one",
                        world.ranks(), here, here));
    std::optional<output_file> out;
    speaker_in_agreement(world, [&] {
        if (c.out) out.emplace(*c.out);
    });
    calibration all;
    {
        progress shown(world.speaks());
        world.run([&](auto comm) {
            calibration mine = measure(comm, shown);
            if (comm.rank() == 0) all = std::move(mine);
        });
    }
    all.world = World::name;
    speaker_in_agreement(world, [&] {
        fmt::print("{}", all.text());
        if (!out) return;
        std::ofstream file(out->beside());
        file << machine_json(all.machine(), all.sources()) << std::flush;
        if (!file) throw refusal(out->path() + ": cannot be written: the disk did not take all of it");
        out->commit();
        fmt::print("{}: this machine, for --machine\n", out->path());
    });
    return 0;
}

} // namespace seqpar::tool
