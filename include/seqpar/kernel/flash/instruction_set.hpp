#pragma once

#include <array>
#include <string_view>

namespace seqpar {

/// Instruction sets that `flash` has code for. Which one runs is chosen at run time: no compiler flag is needed.
enum class instruction_set {
    automatic, ///< the best that this processor has
    baseline,  ///< what the program was compiled for: SSE2 on x86-64, NEON on Arm
    avx2,      ///< AVX2 and FMA: 256-bit vectors
    avx512,    ///< AVX-512 F, BW, DQ, VL: 512-bit vectors
    avx512_bf16 ///< and BF16: products of bfloat16, two at a time, where tensors are stored so and scores keep their values
};

[[nodiscard]] constexpr std::string_view to_string(instruction_set set) noexcept {
    constexpr std::array<std::string_view, 5> names{"automatic", "baseline", "avx2", "avx512", "avx512_bf16"};
    return names[static_cast<std::size_t>(set)];
}

/// Whether this processor, and the system it runs under, can execute it.
[[nodiscard]] inline bool is_supported(instruction_set set) noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (set == instruction_set::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (set == instruction_set::avx512_bf16)
        return is_supported(instruction_set::avx512) && __builtin_cpu_supports("avx512bf16");
    if (set == instruction_set::avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
#endif
    return set == instruction_set::automatic || set == instruction_set::baseline;
}

/// The widest one that is_supported(): what `automatic` means here.
[[nodiscard]] inline instruction_set best_instruction_set() noexcept {
    if (is_supported(instruction_set::avx512_bf16)) return instruction_set::avx512_bf16;
    if (is_supported(instruction_set::avx512)) return instruction_set::avx512;
    if (is_supported(instruction_set::avx2)) return instruction_set::avx2;
    return instruction_set::baseline;
}

} // namespace seqpar
