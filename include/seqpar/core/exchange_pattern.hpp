#pragma once

namespace seqpar {

/// How blocks of all ranks reach all ranks. Each brings (P-1) blocks to a rank, for any P and blocks of any sizes.
enum class exchange_pattern {
    direct,  ///< each rank sends its own to each other one: P-1 rounds; a receiver may want some rows only
    ring,    ///< blocks are passed on to the next rank: P-1 rounds, to neighbours only
    doubling ///< a rank holds twice as many after each round (Bruck et al. 1997): ceil(log2 P) rounds
};

} // namespace seqpar
