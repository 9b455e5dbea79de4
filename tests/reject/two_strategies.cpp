// MUST NOT COMPILE: attention<...> was given two strategies
#include <seqpar/seqpar.hpp>

int main() { seqpar::attention<seqpar::ring, seqpar::all_gather, seqpar::causal> attend; }
