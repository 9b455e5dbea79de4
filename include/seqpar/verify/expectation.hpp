#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/verify/sample.hpp>

#include <vector>

namespace seqpar {

/// What the elements of a [batch, seq, heads, dim] should be: by the definition, in double and with a bound, at some of its
/// rows, and elsewhere what serial has computed, give or take what the judged bounds let two results differ by.
template <real_element T>
struct expectation {
    tensor_view<const T> serial;
    std::vector<sampled_row> at;                     ///< rows, in the order of batch, seq, heads
    std::vector<std::vector<double>> values, bounds; ///< of each of them: [dim]
    double allowed_from_serial = 0;
};

} // namespace seqpar
