// MUST NOT COMPILE: ring
#include <seqpar/seqpar.hpp>

int main() { seqpar::attention<seqpar::ring<seqpar::ulysses<>>> attend; }
