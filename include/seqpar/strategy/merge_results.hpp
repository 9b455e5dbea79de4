#pragma once

#include <seqpar/comm/collectives/all_reduce_doubling.hpp>
#include <seqpar/core/partial.hpp>
#include <seqpar/strategy/parcel.hpp>

#include <cstddef>
#include <memory_resource>

namespace seqpar {

/// A finished softmax of some rows over some keys, in the accumulation type: one message. Partials travel in this form:
/// partial::finish writes it and partial::merge takes it in.
template <element A>
struct softmax_result {
    softmax_result() = default;
    /// Room for one; `shape` is that of out.
    softmax_result(const extents& shape, std::pmr::memory_resource* memory)
        : lse(nullptr, {shape.batch, shape.seq, shape.heads, 1}), out(nullptr, shape),
          message(parcel::room_for(memory, lse, out)) {}

    tensor_view<A> lse; // [batch, rows, heads, 1]
    tensor_view<A> out; // [batch, rows, heads, head_dim of v]
    parcel message;

    /// Bytes that one holds, and sends.
    [[nodiscard]] static std::size_t bytes(const extents& shape) noexcept {
        return tensor<A>::bytes(shape) + tensor<A>::bytes({shape.batch, shape.seq, shape.heads, 1});
    }
};

/// Gives every rank the softmax of the same rows over the keys of all ranks, the same bits on each: `mine`, that over this
/// rank's keys, becomes the merge of all. Collective; the shape is the same on every rank.
///
/// By recursive doubling: rows * heads * (head_dim of v + 1) accumulators a message, in log2 P messages and rounds; for the
/// other P see collective::all_reduce_doubling. Takes a softmax_result and a partial from `memory` on top of `mine`.
/// A sink joins the softmax once, so after this and not before.
template <element A, communicator C>
void all_reduce_results(C& comm, softmax_result<A>& mine, std::pmr::memory_resource* memory) {
    if (comm.size() == 1) return;
    const extents shape = mine.out.shape();
    softmax_result<A> theirs(shape, memory);
    collective::all_reduce_doubling(comm, mine.message.in(), theirs.message.in(), [&](bool mine_first) {
        const softmax_result<A>&first = mine_first ? mine : theirs, &second = mine_first ? theirs : mine;
        partial<A> seen(shape, memory);
        seen.merge(first.out, first.lse);
        seen.merge(second.out, second.lse);
        seen.finish(mine.out, mine.lse);
    });
}

} // namespace seqpar
