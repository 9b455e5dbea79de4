/// @file
/// Takes the place of the library's header of this name, where it comes first on the compiler's way: AMX's registers and
/// instructions in C++, for processors without them and for sanitizers, which see none of what an instruction reads.
/// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG to TDPBF16PS.
#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/processor_features.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__)

namespace seqpar::flash_detail::amx {

#define SEQPAR_AMX gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16")

[[nodiscard]] inline bool is_granted() noexcept { return true; }

/// A thread's registers, which are there between ldtilecfg and tilerelease.
struct emulated_registers {
    typedef float sums __attribute__((vector_size(64)));
    typedef std::uint32_t pairs __attribute__((vector_size(64)));
    static constexpr int count = 8, rows = 16;

    pairs tiles[count][rows];
    bool lent = false;

    [[nodiscard]] static emulated_registers& mine() {
        thread_local emulated_registers all;
        return all;
    }
    /// For an instruction: without the registers it ends the program, as the processor does by another signal.
    [[nodiscard]] static emulated_registers& lent_ones() {
        emulated_registers& all = mine();
        if (!all.lent) {
            std::fputs("an AMX instruction without an amx::registers\n", stderr);
            std::abort();
        }
        return all;
    }
};

class registers {
public:
    registers() {
        emulated_registers& all = emulated_registers::mine();
        std::memset(all.tiles, 0, sizeof all.tiles);
        all.lent = true;
    }
    ~registers() { emulated_registers::mine().lent = false; }
    registers(const registers&) = delete;
    registers& operator=(const registers&) = delete;
};

template <int Tile>
inline void zero() {
    emulated_registers& all = emulated_registers::lent_ones();
    std::memset(all.tiles[Tile], 0, sizeof all.tiles[Tile]);
}
template <int Tile>
inline void load(const void* from, index_t step) {
    emulated_registers& all = emulated_registers::lent_ones();
    for (index_t r = 0; r < emulated_registers::rows; ++r)
        std::memcpy(&all.tiles[Tile][r], static_cast<const char*>(from) + r * step * 4, sizeof all.tiles[Tile][r]);
}
template <int Tile>
inline void store(void* to, index_t step) {
    emulated_registers& all = emulated_registers::lent_ones();
    for (index_t r = 0; r < emulated_registers::rows; ++r)
        std::memcpy(static_cast<char*>(to) + r * step * 4, &all.tiles[Tile][r], sizeof all.tiles[Tile][r]);
}

/// Zeros for what is below the smallest normal number.
[[gnu::always_inline, SEQPAR_AMX]] inline void flush(emulated_registers::sums& x) {
    using pairs = emulated_registers::pairs;
    const pairs bits = (pairs)x, normal = (pairs)((bits & 0x7f800000U) != 0U);
    x = (emulated_registers::sums)(bits & (normal | 0x80000000U));
}

/// Two sums from zero, in the order of k, added before they reach c.
template <int C, int A, int B>
[[gnu::noinline, SEQPAR_AMX]] inline void multiply() {
    using sums = emulated_registers::sums;
    emulated_registers& all = emulated_registers::lent_ones();
    for (int m = 0; m < emulated_registers::rows; ++m) {
        sums even{}, odd{};
        for (int k = 0; k < emulated_registers::rows; ++k) {
            const std::uint32_t a = all.tiles[A][m][k];
            sums a_even = (sums)((a << 16) - emulated_registers::pairs{}),
                 a_odd = (sums)((a & 0xffff0000U) - emulated_registers::pairs{}),
                 b_even = (sums)(all.tiles[B][k] << 16), b_odd = (sums)(all.tiles[B][k] & 0xffff0000U);
            flush(a_even), flush(a_odd), flush(b_even), flush(b_odd);
            even += a_even * b_even, odd += a_odd * b_odd; // only sums round: a product of bfloat16 is a float
            flush(even), flush(odd);
        }
        even += odd;
        flush(even);
        sums c = (sums)all.tiles[C][m];
        flush(c);
        c += even;
        flush(c);
        all.tiles[C][m] = (emulated_registers::pairs)c;
    }
}

#undef SEQPAR_AMX

} // namespace seqpar::flash_detail::amx

#endif
