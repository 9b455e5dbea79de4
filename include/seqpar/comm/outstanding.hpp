#pragma once

#include <seqpar/comm/communicator.hpp>

#include <utility>
#include <vector>

namespace seqpar {

/// Several exchanges under way, waited for together: one round. Itself an exchange_request. Those that nobody has waited for
/// are withdrawn from the last to the first: a message must not arrive in the place of one that was posted before it.
template <communicator C>
class outstanding {
public:
    outstanding() = default;
    outstanding(outstanding&&) noexcept = default;
    outstanding& operator=(outstanding&& other) noexcept {
        if (this != &other) {
            withdraw();
            requests_ = std::move(other.requests_);
            other.requests_.clear();
        }
        return *this;
    }
    ~outstanding() { withdraw(); }

    void add(request_t<C> request) { requests_.push_back(std::move(request)); }

    void wait() {
        for (auto& request : requests_) request.wait();
        requests_.clear();
    }
    bool test() {
        bool done = true;
        for (auto& request : requests_) done = request.test() && done;
        return done;
    }

private:
    void withdraw() noexcept {
        while (!requests_.empty()) requests_.pop_back();
    }

    std::vector<request_t<C>> requests_;
};

} // namespace seqpar
