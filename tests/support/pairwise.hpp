/// @file
/// Choices of test parameters that cover every pair.
#pragma once

#include <array>
#include <cstddef>
#include <random>
#include <set>
#include <vector>

namespace seqpar::testing {

/// A value of each factor, as an index into its list.
using choice = std::vector<std::size_t>;

/// Choices in which every pair of values of two factors occurs: greedy, of 50 random candidates the one with most new
/// pairs.
[[nodiscard]] inline std::vector<choice> pairwise(const std::vector<std::size_t>& factors) {
    std::set<std::array<std::size_t, 4>> missing;
    for (std::size_t a = 0; a < factors.size(); ++a)
        for (std::size_t b = a + 1; b < factors.size(); ++b)
            for (std::size_t x = 0; x < factors[a]; ++x)
                for (std::size_t y = 0; y < factors[b]; ++y) missing.insert({a, x, b, y});
    std::mt19937 bits(7);
    std::vector<choice> chosen;
    while (!missing.empty()) {
        choice best;
        std::size_t most = 0;
        for (int candidate = 0; candidate < 50; ++candidate) {
            choice c;
            for (const std::size_t n : factors) c.push_back(bits() % n);
            // One pair that is missing, so that every choice brings at least one.
            const auto& seed = *missing.begin();
            c[seed[0]] = seed[1], c[seed[2]] = seed[3];
            std::size_t news = 0;
            for (std::size_t a = 0; a < c.size(); ++a)
                for (std::size_t b = a + 1; b < c.size(); ++b) news += missing.count({a, c[a], b, c[b]});
            if (news > most) most = news, best = c;
        }
        for (std::size_t a = 0; a < best.size(); ++a)
            for (std::size_t b = a + 1; b < best.size(); ++b) missing.erase({a, best[a], b, best[b]});
        chosen.push_back(best);
    }
    return chosen;
}

} // namespace seqpar::testing
