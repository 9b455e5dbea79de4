#pragma once

#include <seqpar/comm/communicator.hpp>

#include <utility>
#include <vector>

namespace seqpar {

/// Several exchanges under way, waited for together: one round. Itself an exchange_request.
template <communicator C>
class outstanding {
public:
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
    std::vector<request_t<C>> requests_;
};

} // namespace seqpar
