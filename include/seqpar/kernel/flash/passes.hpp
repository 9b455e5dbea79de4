#pragma once

#include <seqpar/core/block.hpp>
#include <seqpar/core/partial.hpp>
#include <seqpar/kernel/flash/asked_score.hpp>
#include <seqpar/kernel/flash/instruction_set.hpp>
#include <seqpar/kernel/kernel.hpp>

#include <cstddef>
#include <span>

namespace seqpar::flash_detail {

/// All that `flash` asks of its code, for each of float, double and bfloat16, with a set that is_supported() and not automatic.
/// forward_pass.hpp and gradient_pass.hpp define it; a program can have that compiled once, see compiled.hpp.

/// As `kernel` says. Keys: one block at least.
template <class T>
void forward(instruction_set set, const context& how, const block<const T>& q, std::span<const key_block<T>> keys,
             const asked_score<accumulator_t<T>>& s, partial<accumulator_t<T>>& into);

/// Scratch of forward; of a set that multiplies bfloat16, the most that any score takes.
template <class T>
[[nodiscard]] std::size_t forward_bytes(instruction_set set, const extents& q, const extents& v,
                                        std::span<const positions> keys, int workers);

template <class T>
void backward(instruction_set set, const context& how, const block<const T>& q, const row_gradients<T>& rows,
              std::span<const key_block<T>> keys, const asked_score<accumulator_t<T>>& s,
              const tensor_view<accumulator_t<T>>& dq, std::span<const key_gradients<accumulator_t<T>>> dkv);

template <class T>
[[nodiscard]] std::size_t backward_bytes(instruction_set set, const extents& q, const extents& v,
                                         std::span<const positions> keys, int workers);

} // namespace seqpar::flash_detail
