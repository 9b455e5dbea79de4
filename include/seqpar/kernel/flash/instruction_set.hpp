#pragma once

#include <seqpar/kernel/flash/amx.hpp>
#include <seqpar/kernel/flash/processor_features.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace seqpar {

/// Instruction sets that `flash` has code for. Which one runs is chosen at run time: no compiler flag is needed.
enum class instruction_set {
    automatic, ///< the best that this processor has
    baseline,  ///< what the program was compiled for: SSE2 on x86-64, NEON on Arm
    avx2,      ///< AVX2 and FMA: 256-bit vectors
    avx512,    ///< AVX-512 F, BW, DQ, VL: 512-bit vectors
    avx512_bf16, ///< and BF16: products of bfloat16, two at a time, where tensors are stored so and scores keep their values
    amx_bf16 ///< and AMX: the same by matrices
};

inline constexpr std::array all_instruction_sets{instruction_set::automatic,   instruction_set::baseline,
                                                 instruction_set::avx2,        instruction_set::avx512,
                                                 instruction_set::avx512_bf16, instruction_set::amx_bf16};

[[nodiscard]] constexpr std::string_view to_string(instruction_set set) noexcept {
    constexpr std::array<std::string_view, all_instruction_sets.size()> names{"automatic", "baseline",    "avx2",
                                                                              "avx512",    "avx512_bf16", "amx_bf16"};
    return names[static_cast<std::size_t>(set)];
}

/// The set of that name; "" is automatic.
[[nodiscard]] inline std::optional<instruction_set> instruction_set_named(std::string_view name) noexcept {
    if (name.empty()) return instruction_set::automatic;
    for (const instruction_set set : all_instruction_sets)
        if (to_string(set) == name) return set;
    return std::nullopt;
}

/// What the environment variable SEQPAR_INSTRUCTION_SET said when it was first asked for: as for machines that must give the
/// same bits though their processors differ, and for tests.
[[nodiscard]] inline const std::string& asked_instruction_set() {
    static const std::string name = [] {
        const char* const text = std::getenv("SEQPAR_INSTRUCTION_SET");
        return std::string(text != nullptr ? text : "");
    }();
    return name;
}

/// The set whose vectors it computes float and double with: beyond avx512 there are products of bfloat16.
[[nodiscard]] constexpr instruction_set vectors_of(instruction_set set) noexcept {
    return std::min(set, instruction_set::avx512);
}

/// Whether this processor, and the system it runs under, can execute it.
[[nodiscard]] inline bool is_supported(instruction_set set) noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (set == instruction_set::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (set == instruction_set::avx512_bf16)
        return is_supported(instruction_set::avx512) && __builtin_cpu_supports("avx512bf16");
#if defined(__x86_64__) && defined(__linux__)
    if (set == instruction_set::amx_bf16)
        return is_supported(instruction_set::avx512_bf16) && flash_detail::amx::is_granted();
#endif
    if (set == instruction_set::avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
#endif
    return set == instruction_set::automatic || set == instruction_set::baseline;
}

/// Whether it is faster here than the set before it. Intel's cores with AMX take four times as long for a product of pairs of
/// bfloat16 as for a multiply-add: half the products a second. Where matrices are hidden from a guest, pairs would be the last
/// choice. @pre is_supported(set)
[[nodiscard]] inline bool is_worthwhile([[maybe_unused]] instruction_set set) noexcept {
#if defined(__x86_64__) || defined(__i386__)
    // Of these cores AVX512-FP16 tells, also of guests.
    if (set == instruction_set::avx512_bf16 && __builtin_cpu_is("intel"))
        return !flash_detail::processor_features::ask().avx512_fp16;
#endif
    return true;
}

/// The fastest one that is_supported(): what `automatic` means here. Asked once: on a virtual machine each question takes
/// microseconds.
[[nodiscard]] inline instruction_set best_instruction_set() noexcept {
    static const instruction_set best =
        *std::find_if(all_instruction_sets.rbegin(), all_instruction_sets.rend(),
                      [](instruction_set set) { return is_supported(set) && is_worthwhile(set); });
    return best;
}

} // namespace seqpar
