/// @file
/// Where the tests of the programs find them; the build defines the macros for tests/tools/*.cpp.
#pragma once

#include <string>

namespace seqpar_test {

/// The program whose ranks are threads.
inline const std::string program = SEQPAR_TEST_PROGRAM;
/// The program whose ranks are processes; empty where MPI is not found.
inline const std::string program_mpi = SEQPAR_TEST_PROGRAM_MPI;
/// What the benchmarks' comparison with peers asks for our repetitions, on threads and on MPI; empty where it is not built.
inline const std::string bench_worker = SEQPAR_TEST_BENCH_WORKER;
inline const std::string bench_worker_mpi = SEQPAR_TEST_BENCH_WORKER_MPI;
/// An MPI job in which a rank fails; empty where MPI is not found.
inline const std::string failing_job = SEQPAR_TEST_FAILING_JOB;
/// mpirun.
inline const std::string mpiexec = SEQPAR_TEST_MPIEXEC;
/// The directory of the texts that ship with the repository.
inline const std::string data_directory = SEQPAR_TEST_DATA;

} // namespace seqpar_test
