// MUST NOT COMPILE: this strategy has no backward: choose serial, ulysses, all_gather or ring
#include <seqpar/seqpar.hpp>

int main() {
    const seqpar::tensor<float> q({1, 4, 2, 8});
    seqpar::attention attend{seqpar::ulysses<seqpar::tree>{}};
    const auto fwd = attend.forward(q, q, q);
    auto result = attend.backward(fwd.out, fwd);
}
