#pragma once

#include <concepts>
#include <cstddef>
#include <utility>

namespace seqpar {

/// Bytes to send: where they are and how many. No bytes, no message. A null pointer with bytes is a ghost: it takes its
/// place and its size on the wire, and carries nothing.
struct outgoing {
    const std::byte* data = nullptr;
    std::size_t bytes = 0;
};

/// Where to put bytes that arrive, and exactly how many are expected.
struct incoming {
    std::byte* data = nullptr;
    std::size_t bytes = 0;
};

/// An exchange under way. Buffers must stay as they are until wait() returns.
///   1. R{} is a request with nothing to wait for. Movable; moving from it leaves such a request.
///   2. r.wait() returns when what was to be sent may be overwritten and what was expected has arrived. Again: no effect.
///   3. r.test() lets the transport make progress and tells whether wait() would return at once.
///   4. Destroying a request that was not waited for (an exception passes) withdraws it; nothing touches its buffers after.
template <class R>
concept exchange_request = std::default_initializable<R> && std::movable<R> && requires(R& r) {
    r.wait();
    { r.test() } -> std::same_as<bool>;
};

/// A group of ranks that can exchange bytes. It knows nothing of tensors. A value: cheap to copy, copies talk in the same
/// group and must not be used from two threads of one rank at once.
///
/// For a model C with values c:
///   1. c.size() ranks, c.rank() of them is this one, 0 <= rank < size. A rank counts within this group and in no other.
///   2. c.exchange(out, to, in, from) sends `out` to rank `to`, expects `in` from rank `from`, and returns an
///      exchange_request without waiting for either. Messages between two ranks match in the order in which they are
///      posted. A message of no bytes is not sent and not expected; both sides know the sizes. Several exchanges may be
///      outstanding, and each completes when both of its sides are posted, in whatever order they are waited for.
///      `to` and `from` may be this rank.
///   3. c.split(color, key) is collective: a C of the ranks with the same color, ordered by key, then by rank. Nothing
///      sent in one group is ever received in another. c.split(0, c.rank()) is a duplicate.
///   4. optional: c.barrier(), c.all_to_all(span of outgoing, span of incoming): used by the collectives where they exist.
///
/// comm/collectives.hpp builds barrier, all_gather, all_to_all and reduce_scatter on this. examples/own_communicator.hpp is
/// a complete model on one screen.
template <class C>
concept communicator = std::copyable<C> && requires(C& c, const C& fixed, outgoing out, incoming in, int rank) {
    { fixed.rank() } -> std::same_as<int>;
    { fixed.size() } -> std::same_as<int>;
    { c.exchange(out, rank, in, rank) } -> exchange_request;
    { c.split(rank, rank) } -> std::same_as<C>;
};

/// The request type of a communicator.
template <communicator C>
using request_t = decltype(std::declval<C&>().exchange(outgoing{}, 0, incoming{}, 0));

} // namespace seqpar
