// The component mpi brings Boost.MPI's headers, and links.
#include <seqpar/comm/mpi.hpp>
#include <seqpar/seqpar.hpp>

int main(int argc, char** argv) {
    int ranks = 0;
    seqpar::mpi::run(argc, argv, [&](const seqpar::mpi_communicator& world) { ranks = world.size(); });
    return ranks == 1 ? 0 : 1;
}
