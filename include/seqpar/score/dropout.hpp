#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/text.hpp>

#include <Random123/philox.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace seqpar {

/// Drops weights after the softmax: P_ij becomes 0 with probability `rate`, else P_ij / (1 - rate). lse is not changed.
/// (Srivastava et al. 2014; the dropout_p of FlashAttention.)
///
/// Whether a weight is dropped is a function of (seed, batch, head, query, key) alone, all global: the same for every
/// strategy, layout, kernel and number of ranks, and the same in backward. Bits are those of Philox4x32-10, a counter-based
/// generator (Salmon et al. 2011, doi:10.1145/2063384.2063405): word key % 4 of the counter (key / 4, query, head, batch).
/// Needs Random123; queries, heads and batch below 2^32, keys below 2^34.
struct dropout : full {
    double rate;
    std::uint64_t seed;

    explicit dropout(double probability, std::uint64_t of = 0) : rate(probability), seed(of) {}

    void check() const {
        if (!(rate >= 0 && rate < 1))
            throw refusal(detail::concat("dropout of ", rate, ": allowed are 0 to below 1; usual is 0.1"));
    }
    void check(const attention_shape& of) const {
        constexpr index_t most = index_t{1} << 32;
        if (of.queries > most || of.keys > 4 * most || of.heads > most || of.batch > most)
            throw refusal(detail::concat("dropout of ", of.queries, " queries and ", of.keys,
                                         " keys: allowed are up to 2^32 and 2^34"));
    }
    [[nodiscard]] bool drops() const noexcept { return rate > 0; }
    template <class A>
    void drop(const score_row& row, std::span<A> z) const {
        using generator = r123::Philox4x32;
        const auto word = [](index_t n) { return static_cast<std::uint32_t>(n); };
        const generator::key_type key{{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}};
        generator::ctr_type counter{
            {0, word(row.n.first_query.value + row.query.value), word(row.head), word(row.batch)}};
        const A kept = static_cast<A>(1 / (1 - rate));
        const double threshold = rate * 0x1p32; // of 2^32 values, those below are dropped
        index_t at = row.n.first_key.value + row.keys.first.value, drawn = -1;
        generator::ctr_type bits{};
        for (std::size_t j = 0; j < z.size(); ++j, at += row.keys.stride) {
            if (at / 4 != drawn) {
                drawn = at / 4;
                counter[0] = word(drawn);
                bits = generator{}(counter, key);
            }
            z[j] = static_cast<double>(bits[static_cast<std::size_t>(at % 4)]) < threshold ? A{0} : kept;
        }
    }
    [[nodiscard]] std::string name() const {
        return "dropout(" + exact_text(rate) + ", seed " + std::to_string(seed) + ')';
    }
};
static_assert(score<dropout>);

} // namespace seqpar
