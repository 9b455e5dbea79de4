#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace seqpar {

/// Base of everything that the library throws.
class error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A call that cannot be carried out. Thrown before any payload moves, on every rank, with the same text; the text gives
/// the value seen, the values allowed and, where ranks differ, the rank.
class refusal : public error {
public:
    using error::error;
};

/// A message that could not be delivered.
class communication_error : public error {
public:
    using error::error;
};

/// What a rank sees when it waits for another rank that has failed. The failure itself is reported by the rank that had it.
class aborted : public communication_error {
public:
    using communication_error::communication_error;
};

/// An exception that left one rank of several. The original is nested inside (std::rethrow_if_nested).
class rank_error : public error {
public:
    rank_error(int rank, const std::string& what) : error("rank " + std::to_string(rank) + ": " + what), rank_(rank) {}

    [[nodiscard]] int rank() const noexcept { return rank_; }

private:
    int rank_;
};

namespace detail {

/// All arguments, written one after the other with operator<<.
template <class... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    return text.str();
}

} // namespace detail
} // namespace seqpar
