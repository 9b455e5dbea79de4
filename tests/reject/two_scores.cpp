// MUST NOT COMPILE: attention<...> was given two scores: compose them with &
#include <seqpar/seqpar.hpp>

int main() { seqpar::attention attend{seqpar::causal{}, seqpar::sliding_window{4, 4}}; }
