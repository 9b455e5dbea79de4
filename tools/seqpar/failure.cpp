#include "failure.hpp"

#include <seqpar/core/error.hpp>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

namespace seqpar::tool {

std::string failure_text() {
    try {
        throw;
    } catch (const rank_error& e) {
        try {
            std::rethrow_if_nested(e);
        } catch (const std::bad_alloc&) {
            return "rank " + std::to_string(e.rank()) +
                   ": not enough memory: try fewer tokens, or more machines under MPI";
        } catch (...) {
            return e.what();
        }
        return e.what();
    } catch (const std::bad_alloc&) {
        return "not enough memory: try fewer tokens, or more machines under MPI";
    } catch (const std::exception& e) {
        return e.what();
    } catch (...) {
        return "an exception of an unknown kind";
    }
}

int finish_output(int status) {
    errno = 0;
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
    std::fprintf(stderr, "seqpar: standard output cannot be written: %s\n", std::strerror(errno));
    return 2;
}

} // namespace seqpar::tool
