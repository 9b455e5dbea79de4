#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace seqpar::flash_detail {

/// Vectors of `Bytes` bytes of A, by GNU vector extensions, and how many of them fit the registers as accumulators.
///
/// They are passed by reference, and only to always_inline functions: by value, their ABI would depend on the
/// caller's instruction set, and compilers say so to the user. A lambda does not inherit its function's instruction
/// set: there are none.
///
/// `ScoreRows` x 3 vectors is the tile of q k^T, 6 x `ValueVectors` that of p v.
template <class A, int Bytes, int ScoreRows, int ValueVectors>
struct simd {
    using value_type = A;
    using bits_type = std::conditional_t<sizeof(A) == 4, std::uint32_t, std::uint64_t>;

    typedef A vector __attribute__((vector_size(Bytes)));
    typedef A stored __attribute__((vector_size(Bytes), may_alias)); // as it lies among scalars in memory
    typedef bits_type bits __attribute__((vector_size(Bytes)));
    typedef std::uint64_t words __attribute__((vector_size(Bytes)));

    struct __attribute__((packed, may_alias)) loose { // and anywhere. (A template forgets the alignment of a typedef.)
        vector value;
    };

    static constexpr int lanes = Bytes / static_cast<int>(sizeof(A));
    static constexpr int words_count = Bytes / 8;
    static constexpr int score_rows = ScoreRows, score_vectors = 3;
    static constexpr int value_rows = 6, value_vectors = ValueVectors;
    static constexpr int panel_keys = score_vectors * lanes;
};

template <class S>
[[gnu::always_inline]] inline const typename S::stored& load(const typename S::value_type* from) {
    return *reinterpret_cast<const typename S::stored*>(from);
}

template <class S>
[[gnu::always_inline]] inline typename S::stored& store(typename S::value_type* to) {
    return *reinterpret_cast<typename S::stored*>(to);
}

/// The same where nothing is known of the alignment.
template <class S>
[[gnu::always_inline]] inline typename S::loose& anywhere(typename S::value_type* at) {
    return *reinterpret_cast<typename S::loose*>(at);
}
template <class S>
[[gnu::always_inline]] inline const typename S::loose& anywhere(const typename S::value_type* at) {
    return *reinterpret_cast<const typename S::loose*>(at);
}

/// v = 0, 1, 2, ...
template <class S>
[[gnu::always_inline]] inline void count_up(typename S::vector& v) {
#pragma GCC unroll 16
    for (int i = 0; i < S::lanes; ++i) v[i] = static_cast<typename S::value_type>(i);
}

/// The bits of all words of a together, half with half until two words are left.
template <class Words, int... I>
[[gnu::always_inline]] inline std::uint64_t all_bits(const Words& a, std::integer_sequence<int, I...>) {
    constexpr int half = static_cast<int>(sizeof...(I));
    if constexpr (half == 1) {
        return a[0] | a[1];
    } else {
        const auto both = __builtin_shufflevector(a, a, I...) | __builtin_shufflevector(a, a, (I + half)...);
        return all_bits(both, std::make_integer_sequence<int, half / 2>{});
    }
}

/// Whether any lane of a is greater than limit. NaN is not.
template <class S>
[[gnu::always_inline]] inline bool any_above(const typename S::vector& a, typename S::value_type limit) {
    const typename S::words above = (typename S::words)(a > limit - typename S::vector{});
    return all_bits(above, std::make_integer_sequence<int, S::words_count / 2>{}) != 0;
}

} // namespace seqpar::flash_detail
