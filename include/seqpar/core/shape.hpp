#pragma once

#include <seqpar/core/tensor.hpp>

namespace seqpar {

/// The sizes of a whole attention, over all ranks.
struct attention_shape {
    index_t batch = 1;
    index_t queries = 0, keys = 0; ///< rows of Q; of K and V
    index_t heads = 0, kv_heads = 0;
    index_t dim = 0, dim_v = 0; ///< head_dim of Q and K; of V

    friend bool operator==(const attention_shape&, const attention_shape&) = default;
};

} // namespace seqpar
