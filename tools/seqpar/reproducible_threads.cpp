// What `seqpar` runs under --reproducible: in a file of its own, so that two compilers share the work.

#include "program.hpp"
#include "thread_world.hpp"

template int seqpar::tool::run_attention<seqpar::reproducible>(thread_world&, const attention_command&,
                                                               const input_headers&);
