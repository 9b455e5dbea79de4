// MUST NOT COMPILE: this score has no backward: give its function a derivative
#include <seqpar/seqpar.hpp>

using namespace seqpar;

int main() {
    const tensor<float> q({1, 4, 2, 8});
    const score_function half("half", [](double x, index_t, index_t, index_t, index_t) { return x / 2; });
    attention attend{causal{} & half};
    const auto fwd = attend.forward(q, q, q);
    auto result = attend.backward(fwd.out, fwd);
}
