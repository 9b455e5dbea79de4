/// Calls that differ between ranks, over MPI: refused on every rank, with the same words.
#include <support/catch.hpp>
#include <support/mismatched_calls.hpp>

#include <seqpar/comm/mpi.hpp>
#include <seqpar/comm/shuffled.hpp>

using namespace seqpar;
using namespace seqpar::testing;

TEST_CASE("calls that differ between ranks are refused on all") {
    const mpi_communicator world{boost::mpi::communicator()};
    if (world.size() < 2) return;
    for (const auto& what : mismatches<mpi_communicator>())
        for (const int odd : {0, world.size() - 1}) CHECK(trouble_with_refusal(world, what, odd) == "");
}

TEST_CASE("messages that come late, in pieces and in other orders") {
    const mpi_communicator mpi{boost::mpi::communicator()};
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        shuffled<mpi_communicator> world(mpi, seed);
        attention attend{world, ring{}};
        attention plain{mpi, ring{}};
        const auto q = normal<float>({1, 4, 2, 4}, static_cast<std::uint64_t>(mpi.rank()));
        const auto late = attend.forward(q, q, q);
        const auto right = plain.forward(q, q, q);
        bool same = true;
        for (index_t i = 0; i < q.shape().count(); ++i) same = same && late.out.data()[i] == right.out.data()[i];
        CHECK(same);
    }
}
