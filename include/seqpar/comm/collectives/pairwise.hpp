#pragma once

#include <seqpar/comm/communicator.hpp>

namespace seqpar::detail {

/// Every rank exchanges with every other: in round i = 1..P-1 with the rank i further for what it sends and i before for
/// what it expects, so that in no round two ranks send to one. send_to(r) is what goes to rank r, receive_from(r) where
/// that from rank r is put. A rank's own part is not touched.
template <communicator C, class SendTo, class ReceiveFrom>
void pairwise_exchange(C& c, const SendTo& send_to, const ReceiveFrom& receive_from) {
    const int rank = c.rank();
    const int size = c.size();
    for (int i = 1; i < size; ++i) {
        const int to = (rank + i) % size;
        const int from = (rank - i + size) % size;
        c.exchange(send_to(to), to, receive_from(from), from).wait();
    }
}

} // namespace seqpar::detail
