/// @file
/// What a collective call is refused with: on every rank, in the same words, before any payload.
#pragma once

#include "catch.hpp"

#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/core/error.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace seqpar::testing {

/// What each of four ranks is told when this rank's call is made by `call(world, rank)`; that it is the same text
/// everywhere, and that no payload was sent. Empty if it is not refused.
inline std::string refused_on_ranks(const std::function<void(metered<thread_communicator>&, int)>& call) {
    std::vector<std::string> told(4);
    std::atomic<std::int64_t> bytes{0};
    threads::run(4, [&](thread_communicator world) {
        const auto counted = std::make_shared<meter>();
        metered<thread_communicator> comm(world, counted);
        try {
            call(comm, world.rank());
        } catch (const refusal& why) {
            told[static_cast<std::size_t>(world.rank())] = why.what();
        }
        bytes += static_cast<std::int64_t>(counted->payload().bytes);
    });
    CHECK((bytes == 0) == !told[0].empty());
    for (const std::string& text : told) CHECK(text == told[0]);
    return told[0];
}

/// Checks that the text has the part, and shows the text if not.
inline bool has(const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
    return text.find(part) != std::string::npos;
}

} // namespace seqpar::testing
