/// `reproducible` over MPI: the bits of serial, on any number of processes.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>

#include <seqpar/comm/mpi.hpp>
#include <seqpar/kernel/reproducible.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/sink.hpp>

#include <cstring>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

[[nodiscard]] bool same_rows(const tensor<float>& mine, const tensor<float>& whole, const positions& at) {
    const tensor<float> want = whole_run<float>::part(whole, at);
    return mine.shape() == want.shape() &&
           std::memcmp(mine.data(), want.data(), static_cast<std::size_t>(want.shape().count()) * sizeof(float)) == 0;
}

} // namespace

TEST_CASE("processes compute the bits of one process") {
    const mpi_communicator world{boost::mpi::communicator()};
    const auto q = normal<float>({1, 37, 4, 8}, 1), k = normal<float>({1, 41, 2, 8}, 2),
               v = normal<float>({1, 41, 2, 6}, 3), dout = normal<float>({1, 37, 4, 6}, 4);
    const auto score = causal{alignment::bottom_right()} & sink({1, 0, -1, 2});
    attention alone{score, reproducible{}};
    const auto want = alone.forward(q, k, v);
    const auto whole = alone.backward(dout, want);

    const auto check = [&](const auto& strategy) {
        attention attend{world, strategy, striped{}, score, reproducible{}};
        const positions rows = striped{}.positions(world.rank(), world.size(), 37),
                        keys = striped{}.positions(world.rank(), world.size(), 41);
        const auto part = [](const tensor<float>& x, const positions& at) { return whole_run<float>::part(x, at); };
        const auto my_q = part(q, rows), my_k = part(k, keys), my_v = part(v, keys);
        const auto mine = attend.forward(my_q, my_k, my_v);
        const auto of = attend.backward(part(dout, rows), mine);
        INFO(strategy.name());
        CHECK(same_rows(mine.out, want.out, rows));
        CHECK(same_rows(of.dq, whole.dq, rows));
        CHECK(same_rows(of.dk, whole.dk, keys));
        CHECK(same_rows(of.dv, whole.dv, keys));
    };
    check(ring{});
    check(ulysses<>{});
    check(tree{});
}
