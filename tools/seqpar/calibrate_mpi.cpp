// calibrate on MPI.

#include "calibrate_run.hpp"
#include "mpi_world.hpp"

template int seqpar::tool::calibrate<seqpar::tool::mpi_world>(mpi_world&, const calibrate_command&);
