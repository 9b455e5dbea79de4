// A second translation unit: a function that lacks its inline would be defined twice.
#include <seqpar/seqpar.hpp>
#include <seqpar/version.hpp>

int version_seen_by_the_other();
int version_seen_by_the_other() { return seqpar::version_minor; }
