// calibrate on threads.

#include "calibrate_run.hpp"
#include "thread_world.hpp"

template int seqpar::tool::calibrate<seqpar::tool::thread_world>(thread_world&, const calibrate_command&);
