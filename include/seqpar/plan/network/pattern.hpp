#pragma once

#include <seqpar/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <compare>
#include <vector>

namespace seqpar::plan {

/// What all ranks of a run send at once. The run is cut into blocks of group * stride ranks; in a block that starts at rank b,
/// rank b + i * stride + r (0 <= i < group, 0 <= r < stride) sends one message for each shift s, to
/// b + ((i + s) mod group) * stride + r. A shift may be negative; one that is 0 mod group is no message.
struct pattern {
    int group = 1;
    int stride = 1;
    std::vector<int> shifts;

    friend auto operator<=>(const pattern&, const pattern&) = default;
};

/// How long a pattern takes: messages of b bytes each are there after latency + b * seconds_per_byte.
struct timing {
    double latency = 0;          ///< seconds, of the message with the largest
    double seconds_per_byte = 0; ///< of the link with the largest: messages on it / its bandwidth
    double alone = 0;            ///< seconds per byte of the slowest message if it were the only one

    friend bool operator==(const timing&, const timing&) = default;
};

/// The same of the messages within nodes and of those between nodes, each by themselves: the last message is there after the
/// longer of the two.
struct split_timing {
    timing inside, between;
    /// Seconds per byte between nodes while each message always meets all that it shares a link with.
    double unaligned = 0;

    [[nodiscard]] double latency() const noexcept { return std::max(inside.latency, between.latency); }
    /// Until messages of b bytes are there that start together.
    [[nodiscard]] double seconds(double bytes) const noexcept {
        return later(bytes, inside.seconds_per_byte, between.seconds_per_byte);
    }
    /// The same if each were the only one.
    [[nodiscard]] double seconds_alone(double bytes) const noexcept {
        return later(bytes, inside.alone, between.alone);
    }
    /// The same of one of many such rounds. Their messages do not start together for long: short ways are done sooner, and the
    /// next round's are there before those of the long ways have gone. A link is then shared as transport protocols share it,
    /// in inverse proportion to the latencies of the ways: the longest waits longer than if all of them ended with it. It meets
    /// others so in the share of the round in which bytes move.
    [[nodiscard]] double seconds_repeated(double bytes) const noexcept {
        const double moving = bytes * between.seconds_per_byte, round = between.latency + moving;
        const double meeting = round > 0 ? moving / round : 0;
        return later(bytes, inside.seconds_per_byte, std::lerp(between.seconds_per_byte, unaligned, meeting));
    }
    /// Of all messages together.
    [[nodiscard]] timing whole() const noexcept {
        return {latency(), std::max(inside.seconds_per_byte, between.seconds_per_byte),
                std::max(inside.alone, between.alone)};
    }

private:
    [[nodiscard]] double later(double bytes, double within, double out) const noexcept {
        return std::max(inside.latency + bytes * within, between.latency + bytes * out);
    }
};

/// The shifts of a pattern that are messages, from 1 to group - 1.
/// @throws refusal if group or stride is below 1 or blocks of group * stride do not cut the ranks evenly
[[nodiscard]] inline std::vector<int> steps_of(const pattern& p, int ranks) {
    if (p.group < 1 || p.stride < 1)
        throw refusal(seqpar::detail::concat("a pattern of groups of ", p.group, " ranks, ", p.stride,
                                             " apart: allowed are 1 and more for both"));
    if (ranks / p.stride < p.group || ranks % (p.group * p.stride) != 0)
        throw refusal(seqpar::detail::concat("a pattern of groups of ", p.group, " ranks, ", p.stride,
                                             " apart, in a run of ", ranks,
                                             " ranks: allowed are blocks of group * stride ranks that divide the run"));
    std::vector<int> steps;
    for (const int shift : p.shifts)
        if (const int step = (shift % p.group + p.group) % p.group; step != 0) steps.push_back(step);
    return steps;
}

} // namespace seqpar::plan
