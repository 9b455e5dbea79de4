/// MPI jobs in which one rank fails end, all of them, and say why. That they do not hang is what the test's limit is for.
#include "support/catch.hpp"

#include "run_program.hpp"

#include <string>

using namespace seqpar_test;

namespace {

outcome run_job(const std::string& what) {
    set_mpi_environment();
    const directory d;
    return run_command(d, "'" + mpiexec + "' -n 4 '" + failing_job + "' " + what);
}

void must_end(const std::string& what, const std::string& said) {
    const outcome r = run_job(what);
    INFO(what << "\n" << r.out << r.err);
    CHECK(r.status != 0);
    CHECK(contains(r.err, said));
}

} // namespace

TEST_CASE("a job in which nothing fails ends well") {
    if (failing_job.empty()) return;
    const outcome r = run_job("nothing");
    INFO(r.err);
    CHECK(r.status == 0);
}

TEST_CASE("a rank that throws ends the job, and says what and in which operation") {
    if (failing_job.empty()) return;
    must_end("throws", "rank 1: the kernel has no idea (in ring forward, step 0)");
    must_end("throws-int", "rank 1: an exception that is no std::exception (in ring forward, step 0)");
    must_end("allocates", "rank 1: std::bad_alloc (in ring forward, step 0)");
    must_end("exchange", "rank 1: operation 14 of rank 1, ");
}

TEST_CASE("a process that is killed ends the job") {
    if (failing_job.empty()) return;
    must_end("is-killed", "signal 9");
}

TEST_CASE("a rank that does not call ends the job after the stated time, and is named") {
    if (failing_job.empty()) return;
    must_end("does-not-call", "rank 1 has not called within 1 s (in ring forward, preflight, roll_call)");
}
