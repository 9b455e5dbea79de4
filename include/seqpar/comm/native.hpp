#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/core/operation.hpp>

#include <concepts>
#include <span>

namespace seqpar {

/// A communicator with a barrier of its own.
template <class C>
concept native_barrier = communicator<C> && requires(C& c) {
    c.barrier();
};

/// A communicator with an all-to-all of its own: c.all_to_all(out, in) with one entry per rank, uneven and empty ones
/// included, returns when every part has arrived, this rank's own included.
template <class C>
concept native_all_to_all = communicator<C> &&
    requires(C& c, std::span<const outgoing> out, std::span<const incoming> in) {
    c.all_to_all(out, in);
};

/// A communicator that wants to know what its exchanges are for, as metered does: c.operation(name) returns a guard, and
/// what is exchanged while the guard lives belongs to that name.
template <class C>
concept names_operations = communicator<C> && requires(C& c, const char* name) {
    c.operation(name);
};

/// A communicator that knows, without asking them, which ranks of the whole run its members are: c.rank_in_run(member).
template <class C>
concept knows_run = communicator<C> && requires(const C& c, int member) {
    { c.rank_in_run(member) } -> std::same_as<int>;
};

namespace detail {

struct no_guard {};

/// Tells a communicator that wants to know which operation begins; it ends with the guard that comes back.
template <communicator C>
[[nodiscard]] auto tell_operation(C& c, const char* name) {
    if constexpr (names_operations<C>) {
        return c.operation(name);
    } else {
        static_cast<void>(c), static_cast<void>(name);
        return no_guard{};
    }
}

template <class Told>
struct announced {
    operation_scope scope;
    Told told;
};

/// The same, and names it in what fails meanwhile.
template <communicator C>
[[nodiscard]] auto announce(C& c, const char* name) {
    return announced<decltype(tell_operation(c, name))>{operation_scope(name), tell_operation(c, name)};
}

} // namespace detail
} // namespace seqpar
