#pragma once

#include <seqpar/attention/preflight.hpp>
#include <seqpar/core/mixed.hpp>
#include <seqpar/decode/kv_cache.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace seqpar::detail {

/// What one rank is about to do in a step of decoding, in a form that can be sent.
struct step_call {
    call attention;            ///< q; k and v of the shape of the cache
    std::uint64_t changes = 0; ///< of the cache
    std::uint64_t queries = 0; ///< hash of q and of its counts
    sent_text<96> lengths;     ///< of the first sequences
};
static_assert(std::is_trivially_copyable_v<step_call>);

template <real_element T>
[[nodiscard]] std::uint64_t hash_of(const tensor_view<const T>& x, std::span<const index_t> counts) {
    std::uint64_t hash = 0;
    for (const index_t count : counts) hash = mixed(hash, static_cast<std::uint64_t>(count));
    const extents& e = x.shape();
    for (index_t b = 0; b < e.batch; ++b)
        for (index_t s = 0; s < e.seq; ++s)
            for (index_t h = 0; h < e.heads; ++h)
                for (index_t d = 0; d < e.dim; ++d) {
                    std::uint64_t bits = 0;
                    std::memcpy(&bits, x.at(b, s, h, d), sizeof(T));
                    hash = mixed(hash, bits);
                }
    return hash;
}

/// "3, 5, 7": lengths of the sequences of a cache.
template <real_element T, layout L>
[[nodiscard]] std::string lengths_of(const kv_cache<T, L>& cache) {
    std::string text;
    for (index_t b = 0; b < cache.shape().batch; ++b)
        text.append(b == 0 ? "" : ", ").append(std::to_string(cache.length(b)));
    return text;
}

/// What is wrong with counts of queries, of `rows` rows of Q, to a cache; empty if nothing is.
template <real_element T, layout L>
[[nodiscard]] std::string trouble_of(std::span<const index_t> counts, const kv_cache<T, L>& cache, index_t rows) {
    if (static_cast<index_t>(counts.size()) != cache.shape().batch)
        return concat(counts.size(), " counts for a batch of ", cache.shape().batch,
                      ": allowed is one for each sequence");
    for (index_t b = 0; b < cache.shape().batch; ++b) {
        const index_t count = counts[static_cast<std::size_t>(b)], length = cache.length(b);
        if (count < 0 || count > rows)
            return concat("sequence ", b, " has ", count, " queries, and Q has ", rows, " rows: allowed are 0 to that");
        if (length > 0 && count > length)
            return concat("sequence ", b, " has ", count, " queries and ", length,
                          " tokens: allowed are 0 to that; append the queries' own tokens before the step");
    }
    return {};
}

/// What is wrong with one rank's step by itself; empty if nothing is.
template <real_element T, layout L>
[[nodiscard]] std::string step_trouble(const call& c, const kv_cache<T, L>& cache, std::span<const index_t> counts,
                                       int rank, int size) {
    if (cache.rank() != rank || cache.size() != size)
        return concat("the cache is that of rank ", cache.rank(), " of ", cache.size(), ", and this is rank ", rank,
                      " of ", size, ": make the cache with the communicator that decode is given");
    if (std::string shapes = trouble_of(c); !shapes.empty()) return shapes;
    return trouble_of(counts, cache, c.q.seq);
}

/// Throws if a rank is in trouble, or the ranks' steps do not belong together.
inline void refuse_steps(std::span<const step_call> all) {
    std::vector<call> calls;
    for (const step_call& s : all) calls.push_back(s.attention);
    refuse_trouble(calls);
    refuse_differences(calls);
    const step_call& first = all.front();
    for (std::size_t r = 1; r < all.size(); ++r) {
        const step_call& s = all[r];
        if (s.attention.q.seq != first.attention.q.seq)
            throw refusal(concat("rank ", r, " has ", s.attention.q.seq, " rows of Q and rank 0 has ",
                                 first.attention.q.seq, ": all ranks must agree"));
        if (s.lengths.view() != first.lengths.view())
            throw refusal(concat("rank ", r, " has cached sequences of ", s.lengths.view(), " tokens and rank 0 of ",
                                 first.lengths.view(), ": every rank must append the same chunks"));
        if (s.changes != first.changes)
            throw refusal(concat("rank ", r,
                                 " has changed its cache otherwise than rank 0: every rank must append the "
                                 "same chunks in the same order"));
        if (s.queries != first.queries)
            throw refusal(concat("rank ", r, " has another Q than rank 0: every rank must bring the same one"));
    }
}

} // namespace seqpar::detail
