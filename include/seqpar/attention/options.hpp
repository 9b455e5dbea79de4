#pragma once

#include <chrono>
#include <memory_resource>
#include <optional>

namespace seqpar {

/// How much of a call is checked before any payload moves.
enum class check_level {
    all_ranks, ///< every rank's call is compared with every other's: ceil(log2 P) rounds of small messages
    own_rank,  ///< each rank checks its own; the caller vouches for the others and gives the global lengths
    none       ///< nothing is checked; lengths as for own_rank
};

/// What forward keeps for backward beside the user's own q, k, v, out and lse.
enum class saving {
    resend, ///< nothing: what is needed moves again in backward
    keep    ///< what has moved: more memory between the passes, fewer bytes in backward
};

/// What is not worth a type of its own.
struct options {
    std::optional<double> scale = {};            ///< of q . k; default 1 / sqrt(head_dim)
    bool lse = true;                             ///< return lse (ulysses sends it home); backward needs it
    saving save = saving::resend;                ///< what forward keeps for backward
    check_level check = check_level::all_ranks;  ///< of each forward
    std::pmr::memory_resource* memory = nullptr; ///< of buffers and scratch; default: a workspace
    /// How long a check of all ranks waits for one that does not call: then all that have called throw communication_error
    /// with its rank. Zero: for ever.
    std::chrono::milliseconds patience = std::chrono::minutes(10);
};

} // namespace seqpar
