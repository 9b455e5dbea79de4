/// @file
/// The code of `flash` for all instruction sets and storage types, compiled where this is included: by one source file of a
/// program whose others are compiled with SEQPAR_FLASH_ELSEWHERE defined, which takes them two thirds of the time and less.
/// Files that are compiled without it have the code themselves, and may be in the same program.
#pragma once

#include <seqpar/kernel/flash/engine.hpp>

namespace seqpar::flash_detail {

template engine<float> engine_for<float>(instruction_set, bool) noexcept;
template engine<double> engine_for<double>(instruction_set, bool) noexcept;
template engine<bfloat16> engine_for<bfloat16>(instruction_set, bool) noexcept;

} // namespace seqpar::flash_detail
