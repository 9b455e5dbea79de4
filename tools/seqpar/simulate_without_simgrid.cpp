// simulate, where there is no SimGrid to build it with, and of seqpar-mpi.

#include "simulate_schemes.hpp"

#include <seqpar/core/error.hpp>

namespace seqpar::tool {

std::string simulate_schemes(const simulate_command&) {
    throw refusal(
        "simulate: this was built without SimGrid, as seqpar-mpi always is: use `seqpar simulate`. Where that says the "
        "same, install SimGrid (Debian: libsimgrid-dev) and build again; `plan` needs none");
}

} // namespace seqpar::tool
