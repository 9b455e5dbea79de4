#pragma once

#include <seqpar/comm/collectives/all_to_all.hpp>

#include <vector>

namespace seqpar::collective {

/// Sends `mine` to every rank and puts what rank r sends into everyone[r]. Collective.
///
/// everyone    one entry per rank; sizes may differ and may be zero; everyone[s].bytes equals mine.bytes on rank s.
///             everyone[rank].data may be mine.data itself (nothing is copied); no other overlap.
/// Cost per rank: mine.bytes * (P-1), in P-1 messages (none where mine is empty) and P-1 rounds; one native call where the
///             communicator has an all-to-all.
/// Throws refusal if there is not one entry per rank, communication_error if sizes differ.
template <communicator C>
void all_gather(C& c, outgoing mine, std::span<const incoming> everyone) {
    detail::check_parts("all_gather", "incoming parts", everyone.size(), c.size());
    [[maybe_unused]] const auto named = detail::announce(c, "all_gather");
    if constexpr (native_all_to_all<C>) {
        const std::vector<outgoing> out(everyone.size(), mine);
        c.all_to_all(std::span<const outgoing>(out), everyone);
    } else {
        detail::copy_own_part(mine, everyone[static_cast<std::size_t>(c.rank())], c.rank());
        detail::pairwise_exchange(
            c, [&](int) { return mine; }, [&](int from) { return everyone[static_cast<std::size_t>(from)]; });
    }
}

} // namespace seqpar::collective
