#pragma once

#include <seqpar/comm/collectives/pairwise.hpp>
#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/comm/native.hpp>
#include <seqpar/core/error.hpp>

#include <cstddef>
#include <span>

namespace seqpar {
namespace detail {

inline void check_parts(const char* operation, const char* what, std::size_t parts, int size) {
    if (parts != static_cast<std::size_t>(size))
        throw refusal(concat(operation, ": ", parts, " ", what, "; must be one per rank: ", size));
}

} // namespace detail

namespace collective {

/// Sends out[r] to rank r and puts what rank r sends into in[r], for every rank, this one included. Collective.
///
/// out, in     one entry per rank. Sizes may differ and may be zero; out[r].bytes on rank s equals in[s].bytes on rank r.
///             Null data with bytes is a ghost. out[rank] may be in[rank] itself (nothing is copied); no other overlap.
/// Cost per rank: sum of out[r].bytes over r != rank, in at most P-1 messages and P-1 rounds; one native call where the
///             communicator has an all-to-all.
/// Throws refusal if there is not one entry per rank, communication_error if sizes differ.
template <communicator C>
void all_to_all(C& c, std::span<const outgoing> out, std::span<const incoming> in) {
    detail::check_parts("all_to_all", "outgoing parts", out.size(), c.size());
    detail::check_parts("all_to_all", "incoming parts", in.size(), c.size());
    [[maybe_unused]] const auto named = detail::announce(c, "all_to_all");
    if constexpr (native_all_to_all<C>) {
        c.all_to_all(out, in);
    } else {
        const auto own = static_cast<std::size_t>(c.rank());
        detail::copy_own_part(out[own], in[own], c.rank());
        detail::pairwise_exchange(
            c, [&](int to) { return out[static_cast<std::size_t>(to)]; },
            [&](int from) { return in[static_cast<std::size_t>(from)]; });
    }
}

} // namespace collective
} // namespace seqpar
