// The component random123 brings the generator that dropout draws from.
#include <seqpar/score/dropout.hpp>
#include <seqpar/seqpar.hpp>

int main() {
    seqpar::tensor<float> x({1, 64, 1, 1});
    for (seqpar::index_t i = 0; i < 64; ++i) x(0, i, 0) = 1;
    seqpar::attention attend{seqpar::dropout{0.5, 7}};
    const auto fwd = attend.forward(x, x, x);
    return fwd.out(0, 3, 0) != fwd.out(0, 4, 0) ? 0 : 1; // twice the part of the keys that is left
}
