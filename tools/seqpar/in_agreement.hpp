#pragma once

#include <seqpar/core/error.hpp>

#include <string>

namespace seqpar::tool {

/// Calls f; what it refuses in one process of a world is refused in all. Collective over the processes.
template <class World, class F>
void in_agreement(World& world, const F& f) {
    std::string trouble;
    try {
        f();
    } catch (const refusal& why) {
        trouble = why.what();
    }
    world.agree(trouble);
}

/// The same for what only the process that prints and writes does.
template <class World, class F>
void speaker_in_agreement(World& world, const F& f) {
    in_agreement(world, [&] {
        if (world.speaks()) f();
    });
}

} // namespace seqpar::tool
