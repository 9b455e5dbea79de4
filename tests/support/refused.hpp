/// @file
/// What a call is refused with.
#pragma once

#include <seqpar/core/error.hpp>

#include <string>

namespace seqpar::testing {

/// The words of the refusal that f throws; empty if it throws none.
template <class F>
[[nodiscard]] std::string refused(const F& f) {
    try {
        f();
    } catch (const refusal& why) {
        return why.what();
    }
    return {};
}

} // namespace seqpar::testing
