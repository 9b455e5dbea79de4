// The component mpi brings Boost.MPI's headers, and links.
#include <boost/mpi/environment.hpp>
#include <seqpar/version.hpp>

int main() { return boost::mpi::environment::initialized() ? 1 : 0; }
