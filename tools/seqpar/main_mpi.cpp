// seqpar-mpi: the ranks are the processes of an MPI job.

#include "failure.hpp"
#include "mpi_world.hpp"
#include "program.hpp"

#include <boost/mpi/environment.hpp>

#include <chrono>
#include <thread>

namespace {

/// Whether all ranks get here within a few seconds. One that does not will never know why the others have gone.
bool all_arrive() {
    MPI_Request arrival = MPI_REQUEST_NULL;
    MPI_Ibarrier(MPI_COMM_WORLD, &arrival);
    int all = 0;
    for (int tries = 0; tries < 300 && all == 0; ++tries) {
        MPI_Test(&arrival, &all, MPI_STATUS_IGNORE);
        if (all == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return all != 0;
}

} // namespace

extern template int seqpar::tool::run_attention<seqpar::reproducible>(mpi_world&, const attention_command&,
                                                                      const input_headers&);

int main(int argc, char** argv) {
    using namespace seqpar::tool;
    const boost::mpi::environment environment(argc, argv, boost::mpi::threading::funneled);
    const int rank = boost::mpi::communicator().rank();
    try {
        mpi_world world{seqpar::mpi_communicator()};
        return finish_output(run_program(world, argc, argv, "seqpar-mpi"));
    } catch (const seqpar::refusal& why) {
        // A refusal is thrown on every rank alike; rank 0 speaks for all.
        if (all_arrive()) {
            if (rank == 0) fmt::print(stderr, "seqpar-mpi: {}\n", why.what());
            return refused;
        }
        fmt::print(stderr, "seqpar-mpi: rank {}: {}\n", rank, why.what());
    } catch (...) {
        fmt::print(stderr, "seqpar-mpi: rank {}: {}\n", rank, failure_text());
    }
    std::fflush(stderr);
    boost::mpi::environment::abort(refused);
    return refused;
}
