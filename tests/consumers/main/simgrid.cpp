// The component simgrid brings the simulator, which takes a machine as its platform.
#include <seqpar/comm/simgrid/platform.hpp>
#include <seqpar/seqpar.hpp>

int main(int argc, char** argv) {
    simgrid::s4u::Engine engine(&argc, argv);
    seqpar::plan::machine m;
    m.ranks_per_node = 2;
    m.inside = {1e-6, 1e9};
    const auto hosts = seqpar::build_platform(m, 2);
    return hosts.size() == 2 && hosts[1]->get_speed() == 1 ? 0 : 1;
}
