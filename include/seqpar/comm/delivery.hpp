#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/core/error.hpp>

#include <cstring>
#include <string>

namespace seqpar::detail {

/// Throws communication_error if a message would go to, or come from, a rank that the group does not have. A message of no
/// bytes goes nowhere, so its rank may be anything.
inline void check_peer(const char* verb, std::size_t bytes, int peer, int size) {
    if (bytes != 0 && (peer < 0 || peer >= size)) {
        throw communication_error(concat("exchange: cannot ", verb, " rank ", peer, " (", bytes,
                                         " bytes); allowed: 0 to ", size - 1, ", nearest: ", peer < 0 ? 0 : size - 1));
    }
}

/// The same for both sides of an exchange.
inline void check_peers(const outgoing& out, int to, const incoming& in, int from, int size) {
    check_peer("send to", out.bytes, to, size);
    check_peer("receive from", in.bytes, from, size);
}

[[nodiscard]] inline std::string size_mismatch(int from, std::size_t sent, int to, std::size_t expected) {
    return concat("message from rank ", from, " to rank ", to, ": rank ", from, " sends ", sent, " bytes, rank ", to,
                  " expects ", expected, "; both must be the same");
}

/// Copies a message whose sizes agree. Ghosts are not copied, nor is a message that lies where it should arrive.
inline void copy_message(const outgoing& out, const incoming& in) noexcept {
    if (out.data != nullptr && in.data != nullptr && out.data != in.data) std::memcpy(in.data, out.data, out.bytes);
}

/// The part of a collective that a rank sends to itself.
inline void copy_own_part(const outgoing& out, const incoming& in, int rank) {
    if (out.bytes != in.bytes) throw communication_error(size_mismatch(rank, out.bytes, rank, in.bytes));
    copy_message(out, in);
}

} // namespace seqpar::detail
