// MUST NOT COMPILE: (no matching function|no match|no viable|could not convert)
#include <seqpar/seqpar.hpp>

int main() {
    seqpar::tensor<double> q({1, 4, 2, 8});
    seqpar::attention<seqpar::span_backend<float>> attend;
    auto result = attend.forward(q, q, q);
}
