#pragma once

#include "settings.hpp"

#include <string>

namespace seqpar::tool {

/// Makes q.npy, k.npy and v.npy of the bytes of a text. Returns a line that says what was made.
/// @throws refusal if the text cannot be read or a file not be written; then none of the three is changed
///
/// A token is a byte. x = a seeded normal vector of its byte; q, k, v = seeded normal matrices times x, a slice for each
/// head; pairs (2i, 2i + 1) of q and k are turned by the angle position * 10000^(-2i / head_dim) (Su et al. 2021, RoFormer,
/// arXiv:2104.09864). Scores q . k / sqrt(head_dim) have a standard deviation of about 2.
[[nodiscard]] std::string embed(const embed_command& c);

} // namespace seqpar::tool
