/// @file
/// Attention written from its definition alone, with nothing of the library but its views: what the library's own
/// definition is held to.
#pragma once

#include <seqpar/core/tensor.hpp>

#include <cmath>
#include <limits>
#include <vector>

namespace seqpar::testing {

struct naive_result {
    std::vector<long double> out; ///< [batch, Nq, heads, dim of v], dense
    std::vector<long double> lse; ///< [batch, Nq, heads], dense
};

/// sees(i, j): may query i see key j.
template <class T, class Sees>
[[nodiscard]] naive_result naive_attention(const tensor_view<const T>& q, const tensor_view<const T>& k,
                                           const tensor_view<const T>& v, double scale, const Sees& sees) {
    const extents e = q.shape();
    const index_t keys = k.shape().seq, dim_v = v.shape().dim, group = e.heads / k.shape().heads;
    naive_result r;
    for (index_t b = 0; b < e.batch; ++b)
        for (index_t i = 0; i < e.seq; ++i)
            for (index_t h = 0; h < e.heads; ++h) {
                std::vector<long double> weight(static_cast<std::size_t>(keys), 0);
                long double sum = 0;
                for (index_t j = 0; j < keys; ++j) {
                    if (!sees(i, j)) continue;
                    long double score = 0;
                    for (index_t d = 0; d < e.dim; ++d)
                        score +=
                            static_cast<long double>(q(b, i, h, d)) * static_cast<long double>(k(b, j, h / group, d));
                    sum += weight[static_cast<std::size_t>(j)] = std::exp(score * scale);
                }
                for (index_t d = 0; d < dim_v; ++d) {
                    long double value = 0;
                    for (index_t j = 0; j < keys; ++j)
                        value += weight[static_cast<std::size_t>(j)] * static_cast<long double>(v(b, j, h / group, d));
                    r.out.push_back(sum == 0 ? 0 : value / sum);
                }
                r.lse.push_back(sum == 0 ? -std::numeric_limits<long double>::infinity() : std::log(sum));
            }
    return r;
}

} // namespace seqpar::testing
