// MUST NOT COMPILE: position
#include <seqpar/seqpar.hpp>

int main() {
    seqpar::tensor<float> q({1, 4, 2, 8});
    auto rows = q.view().rows(seqpar::position(2), 1);
}
