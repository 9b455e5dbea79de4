/// An MPI job in which rank 1 does something wrong: failing_job <what>. tests/tools/test_failing_jobs.cpp says what must come
/// of it.
#include <seqpar/attention.hpp>
#include <seqpar/comm/failing.hpp>
#include <seqpar/comm/mpi.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/strategy/ring.hpp>

#include <chrono>
#include <csignal>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

using namespace seqpar;

namespace {

struct bad_kernel : reference {
    int rank = 0;
    std::string what;

    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        if (rank == 1 && what == "throws") throw std::runtime_error("the kernel has no idea");
        if (rank == 1 && what == "throws-int") throw 42;
        if (rank == 1 && what == "allocates") throw std::bad_alloc();
        if (rank == 1 && what == "is-killed") std::raise(SIGKILL);
        reference::forward(how, q, keys, s, into);
    }
};

} // namespace

int main(int argc, char** argv) {
    mpi::run(argc, argv, [&](mpi_communicator world) {
        const std::string what = argc > 1 ? argv[1] : "";
        const int rank = world.rank();
        tensor<float> x({1, 4, 2, 4});
        for (index_t i = 0; i < x.shape().count(); ++i) x.data()[i] = static_cast<float>(i % 7 + rank);
        bad_kernel k;
        k.rank = rank, k.what = what;
        const auto how = rank == 1 && what == "exchange" ? std::make_shared<fault>(fault_kind::exchange, 14)
                                                         : std::make_shared<fault>();
        attention attend{failing(world, how), ring{}, k, options{.patience = std::chrono::milliseconds(1000)}};
        if (rank == 1 && what == "does-not-call") std::this_thread::sleep_for(std::chrono::minutes(5));
        static_cast<void>(attend.forward(x, x, x));
        static_cast<void>(attend.forward(x, x, x));
    });
    return 0;
}
