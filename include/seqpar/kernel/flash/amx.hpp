#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/processor_features.hpp>

#include <cstdint>

#if defined(__x86_64__) && defined(__linux__)

#include <sys/syscall.h>
#include <unistd.h>

/// Intel's AMX: eight registers of 16 rows x 64 bytes, and an instruction that multiplies two of them, bfloat16 by bfloat16,
/// into a third in float:
///
///     c[m][n] += (sum_k a[m][2 k] b[k][2 n]) + (sum_k a[m][2 k + 1] b[k][2 n + 1])      k = 0 ... 15
///
/// The two sums start from zero, run in the order of k, and are added before they reach c. Numbers below the smallest normal
/// one count as zero. So a row of c has the same bits whatever rows are beside it.
namespace seqpar::flash_detail::amx {

#define SEQPAR_AMX gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16")

/// Whether the processor has it and Linux gives this process the registers' memory, which it does to who asks.
[[nodiscard]] inline bool is_granted() noexcept {
    static const bool granted = [] {
        const processor_features has = processor_features::ask();
        if (!has.amx_bf16 || !has.amx_tiles) return false;
        constexpr long request_permission = 0x1023, tile_data = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
        return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    }();
    return granted;
}

/// Lends the thread the registers while it lives.
class registers {
public:
    [[gnu::always_inline, SEQPAR_AMX]] registers() {
        struct alignas(64) {
            std::uint8_t palette = 1, start = 0, reserved[14] = {};
            std::uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } const shapes;
        asm volatile("ldtilecfg %0" : : "m"(shapes));
    }
    [[gnu::always_inline, SEQPAR_AMX]] ~registers() { asm volatile("tilerelease"); }
    registers(const registers&) = delete;
    registers& operator=(const registers&) = delete;
};

template <int Tile>
[[gnu::always_inline, SEQPAR_AMX]] inline void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
}
/// Rows are `step` times 4 bytes apart.
template <int Tile>
[[gnu::always_inline, SEQPAR_AMX]] inline void load(const void* from, index_t step) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(step * 4), "i"(Tile) : "memory");
}
template <int Tile>
[[gnu::always_inline, SEQPAR_AMX]] inline void store(void* to, index_t step) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(step * 4), "i"(Tile) : "memory");
}
template <int C, int A, int B>
[[gnu::always_inline, SEQPAR_AMX]] inline void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

#undef SEQPAR_AMX

} // namespace seqpar::flash_detail::amx

#endif
