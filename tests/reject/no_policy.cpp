// MUST NOT COMPILE: must_be_a_policy<int>
// MUST NOT COMPILE: given a type that is no policy: it models none of communicator, strategy, tensor_backend, score
#include <seqpar/seqpar.hpp>

int main() { seqpar::attention<seqpar::ring, int> attend; }
