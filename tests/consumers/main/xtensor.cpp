// The component xtensor brings xtensor's headers.
#include <seqpar/version.hpp>
#include <xtensor/xtensor_config.hpp>

int main() { return seqpar::version_major + XTENSOR_VERSION_MAJOR >= 0 ? 0 : 1; }
