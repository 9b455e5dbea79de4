#pragma once

#include <seqpar/layout/layout.hpp>

namespace seqpar {

/// Of 2P consecutive parts, rank r holds parts r and 2P - 1 - r: an early and a late one, so that every rank does the same
/// work under a causal score. (Also called dual chunk or head-tail; Llama 3 training, arXiv:2407.21783, section 3.3.2.)
struct zigzag {
    [[nodiscard]] seqpar::positions positions(int rank, int size, index_t n) const {
        return {detail::even_part(rank, 2 * size, n), detail::even_part(2 * size - 1 - rank, 2 * size, n)};
    }
    [[nodiscard]] std::string name() const { return "zigzag"; }
};
static_assert(layout<zigzag>);

} // namespace seqpar
