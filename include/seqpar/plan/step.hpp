#pragma once

#include <seqpar/core/function_ref.hpp>
#include <seqpar/core/origin.hpp>

#include <cstddef>
#include <span>

namespace seqpar::plan {

/// What a rank does between two waits of a pass, as a model of time sees it: it sends, and computes while that travels. All
/// ranks of a pass go through the same number of steps in the same order, and do alike in each.
struct step {
    /// Messages of a round: the ranks of the run lie in blocks of group * stride, and member i of those that are a stride
    /// apart sends to member i + shift, mod group. bytes: what this rank sends.
    struct message {
        int group = 1, stride = 1, shift = 0;
        std::size_t bytes = 0;
    };

    /// A call of the kernel: queries with keys at these positions, which have one head range.
    struct work {
        const origin* queries = nullptr;
        std::span<const positions> keys = {};
    };

    std::span<const message> sent = {};
    std::span<const work> computed = {}; ///< one after the other
};

/// Told of each step of a pass when it is priced.
using step_watcher = function_ref<void(const step&)>;

} // namespace seqpar::plan
