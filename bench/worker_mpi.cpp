/// @file
/// The worker whose ranks are the processes of an MPI job: rank 0 reads and answers, all do what the line says. Of works it
/// knows strategy and strategy_backward.

#include "worker/answers.hpp"
#include "worker/rank_work.hpp"

#include "tools/seqpar/agree.hpp"

#include <seqpar/comm/mpi.hpp>

#include <boost/mpi/environment.hpp>

#include <algorithm>
#include <array>
#include <iostream>
#include <memory>
#include <string>

namespace {

struct on_processes {
    seqpar::mpi_communicator world;

    [[nodiscard]] std::unique_ptr<bench::work> operator()(const bench::request& r) const {
        if (r.work != "strategy" && r.work != "strategy_backward")
            throw seqpar::refusal("work '" + r.work + "': on MPI, allowed are strategy, strategy_backward");
        if (r.type != "float") throw seqpar::refusal("type '" + r.type + "': on MPI, allowed is float");
        return std::make_unique<bench::rank_work<float, seqpar::mpi_communicator>>(world, r);
    }
};

} // namespace

int main(int argc, char** argv) {
    const boost::mpi::environment environment(argc, argv, boost::mpi::threading::funneled);
    seqpar::mpi_communicator world{boost::mpi::communicator()};
    bench::answers answer{on_processes{world}};
    for (;;) {
        std::array<char, 4096> text{}; // empty: the input has ended
        if (world.rank() == 0) {
            std::string line;
            while (line.empty() && std::getline(std::cin, line)) {}
            std::copy_n(line.begin(), std::min(line.size(), text.size() - 1), text.begin());
        }
        seqpar::tool::await_rank_0(world);
        text = seqpar::share(world, text);
        const std::string line = text.data();
        if (line.empty()) return 0;
        const nlohmann::json said = answer(line);
        if (world.rank() == 0) std::cout << said.dump() << std::endl;
    }
}
