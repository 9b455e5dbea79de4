#pragma once

#include <seqpar/core/origin.hpp>

namespace seqpar {

/// What one rank holds: the origins of its block of Q and of its block of K and V.
struct placement {
    origin queries, keys;
    friend bool operator==(const placement&, const placement&) = default;
};

} // namespace seqpar
