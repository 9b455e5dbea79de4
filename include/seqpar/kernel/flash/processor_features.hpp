#pragma once

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>

namespace seqpar::flash_detail {

/// Features that clang 14 has no name for: of those that CPUID tells in edx of its leaf 7. A virtual machine takes microseconds
/// to answer.
struct processor_features {
    bool avx512_fp16, amx_bf16, amx_tiles;

    [[nodiscard]] static processor_features ask() noexcept {
        unsigned a = 0, b = 0, c = 0, d = 0;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) d = 0;
        const auto has = [d](int bit) { return (d >> bit & 1U) != 0; };
        return {has(23), has(22), has(24)};
    }
};

} // namespace seqpar::flash_detail

#endif
