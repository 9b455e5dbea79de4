/// @file
/// Runs the programs as a user does, and a directory for what they read and write.
#pragma once

#include "support/directory.hpp"
#include "support/programs.hpp"

#include "npy_file.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <regex>
#include <string>

namespace seqpar_test {

struct outcome {
    int status = -1;
    std::string out, err;
};

/// A shell command, run in a directory.
[[nodiscard]] inline outcome run_command(const directory& in, const std::string& command) {
    const directory streams;
    const std::string whole = "cd '" + in.path() + "' && { " + command + "; } >'" + (streams / "out") + "' 2>'" +
                              (streams / "err") + "' </dev/null";
    const int status = std::system(whole.c_str());
    // AddressSanitizer's own words on SimGrid's processes, whose stacks it cannot follow, are none of the program's.
    static const std::regex notice(
        "==[0-9]+==WARNING: ASan is ignoring requested __asan_handle_no_return:.*\n.*\n.*\n");
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_bytes(streams / "out"),
            std::regex_replace(read_bytes(streams / "err"), notice, "")};
}

[[nodiscard]] inline outcome run_program(const directory& in, const std::string& arguments) {
    return run_command(in, "'" + program + "' " + arguments);
}

/// What mpirun needs on one machine with fewer cores than ranks; so that these tests can be run by hand, too.
inline void set_mpi_environment() {
    for (const char* name :
         {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"})
        ::setenv(name, "1", 0);
    for (const char* name : {"OMPI_MCA_hwloc_base_binding_policy", "OMPI_MCA_btl_vader_single_copy_mechanism"})
        ::setenv(name, "none", 0);
    ::setenv("OMPI_MCA_btl", "self,vader", 0);
    ::setenv("ASAN_OPTIONS", "fast_unwind_on_malloc=0", 0); // or cmake/lsan.supp does not know whose a leak is
}

/// Under mpirun. Empty program_mpi: not built, nothing to run.
[[nodiscard]] inline outcome run_program_mpi(const directory& in, int ranks, const std::string& arguments) {
    set_mpi_environment();
    return run_command(in, "'" + mpiexec + "' -n " + std::to_string(ranks) + " '" + program_mpi + "' " + arguments);
}

[[nodiscard]] inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// q.npy [batch, nq, heads, dim], k.npy [batch, nk, kv_heads, dim], v.npy [batch, nk, kv_heads, dim_v].
struct inputs {
    array q, k, v;

    inputs(std::size_t batch, std::size_t nq, std::size_t nk, std::size_t heads, std::size_t kv_heads, std::size_t dim,
           std::size_t dim_v)
        : q(random_array({batch, nq, heads, dim}, 1)), k(random_array({batch, nk, kv_heads, dim}, 2)),
          v(random_array({batch, nk, kv_heads, dim_v}, 3)) {}

    void write(const directory& to) const {
        write_npy(to / "q.npy", q);
        write_npy(to / "k.npy", k);
        write_npy(to / "v.npy", v);
    }
};

} // namespace seqpar_test
