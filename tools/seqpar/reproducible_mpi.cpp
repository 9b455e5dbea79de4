// What `seqpar-mpi` runs under --reproducible: in a file of its own, so that two compilers share the work.

#include "mpi_world.hpp"
#include "program.hpp"

template int seqpar::tool::run_attention<seqpar::reproducible>(mpi_world&, const attention_command&,
                                                               const input_headers&);
