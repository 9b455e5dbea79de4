// simulate, where there is no SimGrid to build it with.

#include "simulate_schemes.hpp"

#include <seqpar/core/error.hpp>

namespace seqpar::tool {

std::string simulate_schemes(const simulate_command&) {
    throw refusal(
        "simulate: this was built without SimGrid: install it (Debian: libsimgrid-dev) and build again; `plan` "
        "needs none");
}

} // namespace seqpar::tool
