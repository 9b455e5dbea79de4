// MUST NOT COMPILE: strategy
#include <seqpar/seqpar.hpp>

int main() { seqpar::attention<seqpar::ulysses<seqpar::causal>> attend; }
