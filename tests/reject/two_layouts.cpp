// MUST NOT COMPILE: attention<...> was given two layouts
#include <seqpar/seqpar.hpp>

int main() { seqpar::attention<seqpar::zigzag, seqpar::striped> attend; }
