#pragma once

#include <seqpar/layout/layout.hpp>

namespace seqpar {

/// Rank r holds the r-th of P consecutive parts, the first n % P of them one row longer.
/// Natural, and unbalanced under a causal score: the last rank sees nearly twice the mean.
struct contiguous {
    [[nodiscard]] seqpar::positions positions(int rank, int size, index_t n) const {
        return {detail::even_part(rank, size, n)};
    }
    [[nodiscard]] std::string name() const { return "contiguous"; }
};
static_assert(layout<contiguous>);

} // namespace seqpar
