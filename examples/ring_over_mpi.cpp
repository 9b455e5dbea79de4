// A ring over MPI, with xtensor tensors. Run it with: mpirun -n 4 build/bin/example_ring_over_mpi
#include <seqpar/backend/xtensor.hpp>
#include <seqpar/comm/mpi.hpp>
#include <seqpar/seqpar.hpp>

#include <xtensor/xrandom.hpp>

#include <boost/mpi/environment.hpp>

#include <iostream>

int main(int argc, char** argv) {
    boost::mpi::environment environment(argc, argv);
    const seqpar::mpi_communicator world{boost::mpi::communicator()};
    using scheme = seqpar::attention<seqpar::ring, seqpar::xtensor_backend<float>, seqpar::mpi_communicator,
                                     seqpar::causal, seqpar::zigzag>;
    scheme attend{world};

    const auto rows = static_cast<std::size_t>(attend.layout().positions(world.rank(), world.size(), 2048).size());
    xt::random::seed(static_cast<unsigned>(world.rank()));
    const xt::xtensor<float, 4> q = xt::random::randn<float>({std::size_t{1}, rows, std::size_t{8}, std::size_t{64}}),
                                k = xt::random::randn<float>({std::size_t{1}, rows, std::size_t{2}, std::size_t{64}}),
                                v = xt::random::randn<float>({std::size_t{1}, rows, std::size_t{2}, std::size_t{64}});

    const auto fwd = attend.forward(q, k, v);         // this rank's rows
    const auto grads = attend.backward(fwd.out, fwd); // xt::xtensor too
    const seqpar::report r = seqpar::verify(attend, q, k, v);
    if (world.rank() == 0) std::cout << attend.name() << " on " << world.size() << " ranks: " << r.text() << '\n';
    return r.passed ? 0 : 1;
}
