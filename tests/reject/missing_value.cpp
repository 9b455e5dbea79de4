// MUST NOT COMPILE: a policy whose type has no default was given no value
#include <seqpar/seqpar.hpp>

int main() { seqpar::attention<seqpar::ring, seqpar::thread_communicator> attend{seqpar::ring{}}; }
