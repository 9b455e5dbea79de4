/// @file
/// The code of `flash` for all instruction sets and storage types, compiled where this is included: by one source file of a
/// program whose others are compiled with SEQPAR_FLASH_ELSEWHERE defined, which takes them two thirds of the time. Files that
/// are compiled without it have the code themselves, and may be in the same program.
#pragma once

#include <seqpar/kernel/flash/forward_pass.hpp>
#include <seqpar/kernel/flash/gradient_pass.hpp>
#include <seqpar/kernel/flash/passes.hpp>

#define SEQPAR_FLASH_CODE(T)                                                                                           \
    template void forward<T>(instruction_set, const context&, const block<const T>&, std::span<const key_block<T>>,    \
                             const asked_score<accumulator_t<T>>&, partial<accumulator_t<T>>&);                        \
    template std::size_t forward_bytes<T>(instruction_set, const extents&, const extents&, std::span<const positions>, \
                                          int);                                                                        \
    template void backward<T>(instruction_set, const context&, const block<const T>&, const row_gradients<T>&,         \
                              std::span<const key_block<T>>, const asked_score<accumulator_t<T>>&,                     \
                              const tensor_view<accumulator_t<T>>&, std::span<const key_gradients<accumulator_t<T>>>); \
    template std::size_t backward_bytes<T>(instruction_set, const extents&, const extents&,                            \
                                           std::span<const positions>, int)

namespace seqpar::flash_detail {
SEQPAR_FLASH_CODE(float);
SEQPAR_FLASH_CODE(double);
SEQPAR_FLASH_CODE(bfloat16);
} // namespace seqpar::flash_detail

#undef SEQPAR_FLASH_CODE
