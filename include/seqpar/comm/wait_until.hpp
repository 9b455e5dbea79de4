#pragma once

#include <seqpar/comm/communicator.hpp>

#include <chrono>
#include <concepts>
#include <thread>

namespace seqpar {

/// A request that can sleep until a time: r.wait_until(last) waits no longer, and tells whether wait() would return at once.
template <class R>
concept patient_request = exchange_request<R> && requires(R& r, std::chrono::steady_clock::time_point last) {
    { r.wait_until(last) } -> std::same_as<bool>;
};

namespace detail {

/// Waits for an exchange, but no longer than until `last`; false: it is still under way. A request that cannot sleep until
/// a time is tested again and again, at first without a pause, as MPI itself waits.
template <exchange_request R>
[[nodiscard]] bool wait_until(R& request, std::chrono::steady_clock::time_point last) {
    if constexpr (patient_request<R>) {
        if (!request.wait_until(last)) return false;
    } else {
        for (int tries = 0; !request.test(); ++tries) {
            if (std::chrono::steady_clock::now() >= last) return false;
            if (tries < 1000)
                std::this_thread::yield();
            else
                std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
    }
    request.wait();
    return true;
}

} // namespace detail
} // namespace seqpar
