// The main of an MPI test program: the ranks run the same cases in the same order, and one failing rank fails the run.
//
// Rank 0 prints as it goes; another rank's output is kept and printed after the run, by rank 0, if that rank failed. Its
// failed assertions go to stderr at once as well: a rank that fails before a collective call may never reach the end.
#include "filled_memory.hpp"

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#define SEQPAR_TEST_CATCH3 1
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#define SEQPAR_TEST_CATCH3 0
#endif

#include <boost/mpi/collectives.hpp>
#include <boost/mpi/communicator.hpp>
#include <boost/mpi/environment.hpp>

#include <algorithm>
#include <cstddef>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

// A listener is made by Catch2, which passes it nothing of ours.
int rank_of_listener = 0;

#if SEQPAR_TEST_CATCH3
struct failure_listener : Catch::EventListenerBase {
    using EventListenerBase::EventListenerBase;
    void assertionEnded(const Catch::AssertionStats& stats) override { print(stats); }
#else
struct failure_listener : Catch::TestEventListenerBase {
    using TestEventListenerBase::TestEventListenerBase;
    bool assertionEnded(const Catch::AssertionStats& stats) override {
        print(stats);
        return false;
    }
#endif

    static void print(const Catch::AssertionStats& stats) {
        const Catch::AssertionResult& result = stats.assertionResult;
        if (rank_of_listener == 0 || result.isOk()) return;
        std::ostringstream line;
        line << "rank " << rank_of_listener << ": " << result.getSourceInfo() << ": FAILED: " << result.getExpression();
        if (result.hasExpandedExpression()) line << " with " << result.getExpandedExpression();
        const auto message = result.getMessage(); // std::string, or Catch2's own reference to one
        if (!message.empty()) line << ": " << message;
        line << '\n';
        std::cerr << line.str() << std::flush;
    }
};

CATCH_REGISTER_LISTENER(failure_listener)

} // namespace

int main(int argc, char** argv) {
    seqpar::testing::lend_used_memory();
    Catch::Session session;
    // Later versions shuffle the cases, each process in its own way.
    std::vector<const char*> arguments{argv[0], "--order", "decl"};
    // mpirun shows each rank a terminal, whatever its own output is.
#if SEQPAR_TEST_CATCH3
    arguments.insert(arguments.end(), {"--colour-mode", "none"});
#else
    arguments.insert(arguments.end(), {"--use-colour", "no"});
#endif
    arguments.insert(arguments.end(), argv + 1, argv + argc);
    const int parsed = session.applyCommandLine(static_cast<int>(arguments.size()), arguments.data());
    if (parsed != 0) return parsed;

    const auto& options = session.configData();
    if (options.showHelp || options.listTests || options.listTags || options.listReporters) return session.run();

    boost::mpi::environment environment(boost::mpi::threading::serialized);
    const boost::mpi::communicator world;
    rank_of_listener = world.rank();

    std::ostringstream kept;
    std::streambuf* const terminal = std::cout.rdbuf();
    if (world.rank() != 0) std::cout.rdbuf(kept.rdbuf());
    // Catch2 clamps the number of failures to 255, and so it stays a valid exit status.
    const int failures = session.run();
    std::cout << std::flush;
    std::cout.rdbuf(terminal);

    std::vector<int> failures_by_rank;
    std::vector<std::string> output_by_rank;
    boost::mpi::gather(world, failures, failures_by_rank, 0);
    boost::mpi::gather(world, failures == 0 ? std::string() : kept.str(), output_by_rank, 0);
    if (world.rank() != 0) return 0;

    for (std::size_t rank = 1; rank < failures_by_rank.size(); ++rank) {
        if (failures_by_rank[rank] == 0) continue;
        std::cout << "\n==== rank " << rank << " of " << world.size() << " failed ====\n" << output_by_rank[rank];
    }
    return *std::max_element(failures_by_rank.begin(), failures_by_rank.end());
}
