// MUST NOT COMPILE: the value given for a policy is of another type than the policy that the template names
#include <seqpar/seqpar.hpp>

int main() { seqpar::attention<seqpar::serial, seqpar::zigzag> attend{seqpar::striped{}}; }
