// The component openmp switches OpenMP on, and links it.
#include <seqpar/core/openmp_executor.hpp>
#include <seqpar/seqpar.hpp>

int main() {
    seqpar::tensor<float> x({1, 64, 2, 1});
    for (seqpar::index_t i = 0; i < x.shape().count(); ++i) x.data()[i] = 1;
    seqpar::attention attend{seqpar::openmp_executor{2}};
    return attend.forward(x, x, x).out(0, 3, 1) == 1.0f ? 0 : 1; // the mean of ones
}
