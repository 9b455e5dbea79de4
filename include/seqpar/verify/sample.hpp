#pragma once

#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

namespace seqpar {

/// A row of a head of a batch entry.
struct sampled_row {
    index_t b, i, h;
};

/// All rows of [batch, seq, heads], if `affordable` is enough for them; otherwise as many, 16 at least, the first and the last
/// row of the first and the last head among them, the others by lot.
[[nodiscard]] inline std::vector<sampled_row> sample_rows(const extents& e, double affordable, std::uint64_t seed) {
    const index_t all = e.batch * e.seq * e.heads;
    const auto nth = [&](index_t n) { return sampled_row{n / (e.seq * e.heads), n / e.heads % e.seq, n % e.heads}; };
    std::vector<sampled_row> rows;
    if (static_cast<double>(all) <= affordable) {
        for (index_t n = 0; n < all; ++n) rows.push_back(nth(n));
        return rows;
    }
    std::set<index_t> chosen{0, e.heads - 1, all - e.heads, all - 1};
    std::mt19937_64 random(seed);
    const auto count = std::min(static_cast<std::size_t>(std::max(16.0, affordable)), static_cast<std::size_t>(all));
    while (chosen.size() < count) chosen.insert(static_cast<index_t>(random() % static_cast<std::uint64_t>(all)));
    for (const index_t n : chosen) rows.push_back(nth(n));
    return rows;
}

} // namespace seqpar
