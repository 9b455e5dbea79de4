#pragma once

#include <seqpar/layout/layout.hpp>

namespace seqpar {

/// Rank r holds rows r, r + P, r + 2P, ...: balanced under a causal score to within a row of every other rank.
/// (Brandon et al. 2023, Striped Attention, arXiv:2311.09431.)
struct striped {
    [[nodiscard]] seqpar::positions positions(int rank, int size, index_t n) const {
        return {run{position{rank}, size, (n - rank + size - 1) / size > 0 ? (n - rank + size - 1) / size : 0}};
    }
    [[nodiscard]] std::string name() const { return "striped"; }
};
static_assert(layout<striped>);

} // namespace seqpar
