// What every consumer builds: the umbrella header in two translation units, and a call into the library.
#include <seqpar/seqpar.hpp>
#include <seqpar/version.hpp>

#include <cstdio>

int version_seen_by_the_other();

int main() {
    std::printf("seqpar %s\n", seqpar::version_string);
    return version_seen_by_the_other() == seqpar::version_minor ? 0 : 1;
}
