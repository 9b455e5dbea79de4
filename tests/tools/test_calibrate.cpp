#include "support/catch.hpp"

#include "run_program.hpp"

#include "../../tools/seqpar/machine_named.hpp"

#include <unistd.h>

#include <cstddef>
#include <set>
#include <string>

using namespace seqpar_test;
using seqpar::plan::machine;

namespace {

/// That the numbers could be some machine's: a mistake in a unit would be a factor of a thousand.
void check_plausible(const machine& m, int ranks) {
    CHECK(m.name == "this");
    CHECK(m.ranks() == ranks);
    CHECK(m.ranks_per_node == ranks);
    CHECK(m.shape == seqpar::plan::network_shape::none);
    CHECK(m.memory > std::size_t{1} << 20);
    const auto here = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGE_SIZE));
    CHECK(static_cast<double>(m.memory) * ranks <= here);
    for (const auto& rate : {m.float32, m.float64, m.bfloat16})
        for (const double flops : {rate.forward, rate.backward}) {
            CHECK(flops > 1e7);
            CHECK(flops < 1e14);
        }
    CHECK(m.call > 1e-8);
    CHECK(m.call < 1e-1);
    CHECK(m.inside.latency > 1e-9);
    CHECK(m.inside.latency < 1e-1);
    CHECK(m.inside.bandwidth > 1e6);
    CHECK(m.inside.bandwidth < 1e13);
}

void check_table(const std::string& out, const std::string& ranks) {
    for (const std::string& part :
         {ranks + ", one thread each", std::string("float32 forward"), std::string("float64 backward"),
          std::string("bfloat16 backward"), std::string("GFLOP/s"), std::string("kernel call"),
          std::string("message latency"), std::string("blocks of 16.0 MiB"), std::string("spread")}) {
        INFO("expected: " << part);
        CHECK(contains(out, part));
    }
}

} // namespace

TEST_CASE("calibrate measures this machine, and writes nothing unless asked to") {
    const directory d;
    const outcome r = run_program(d, "calibrate --ranks 1");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    check_table(r.out, "1 rank (threads)");
    CHECK(r.err.empty());
    CHECK(d.names().empty());
}

TEST_CASE("calibrate writes a machine that can be named") {
    const directory d;
    const outcome r = run_program(d, "calibrate --ranks 2 -o this.json");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    check_table(r.out, "2 ranks (threads)");
    CHECK(contains(r.out, "this.json: this machine, for --machine"));
    CHECK(d.names() == std::set<std::string>{"this.json"});
    check_plausible(seqpar::tool::machine_named(d / "this.json"), 2);
    CHECK(contains(read_bytes(d / "this.json"), "2 ranks (threads)"));
    CHECK(run_program(d, "machines this.json").out == read_bytes(d / "this.json"));
}

TEST_CASE("under mpirun calibrate measures the communicator of the job") {
    if (program_mpi.empty()) return;
    const directory d;
    const outcome r = run_program_mpi(d, 2, "calibrate -o this.json");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    check_table(r.out, "2 ranks (MPI)");
    check_plausible(seqpar::tool::machine_named(d / "this.json"), 2);
    CHECK(contains(read_bytes(d / "this.json"), "2 ranks (MPI)"));
    CHECK(contains(run_program_mpi(d, 2, "calibrate --ranks 3").err, "--ranks 3 differs from the 2 ranks"));
}

TEST_CASE("what calibrate cannot do is refused before anything is measured") {
    const directory d;
    const auto refused = [&](const std::string& arguments, const std::string& part) {
        const outcome r = run_program(d, "calibrate " + arguments);
        INFO(arguments << "\n" << r.out << r.err);
        CHECK(r.status == 2);
        CHECK(r.out.empty());
        CHECK(contains(r.err, part));
        CHECK(d.names().empty());
    };
    refused("-o this.txt", "-o this.txt: the name of a machine's file ends in .json: nearest is this.txt.json");
    refused("-o nowhere/this.json", "nowhere/this.json: cannot be written: there is no directory");
    refused("--ranks 0", "--ranks 0 is out of range: allowed are 1 to 1024; nearest is 1");
    refused("--ranks 1025", "nearest is 1024");
    refused("this.json", "'this.json' is one argument too many");
    refused("--rank 2", "nearest is --ranks");
}
