// seqpar: the ranks are threads of this process.

#include "failure.hpp"
#include "program.hpp"
#include "thread_world.hpp"

extern template int seqpar::tool::run_attention<seqpar::reproducible>(thread_world&, const attention_command&,
                                                                      const input_headers&);

int main(int argc, char** argv) {
    using namespace seqpar::tool;
    try {
        thread_world world;
        return finish_output(run_program(world, argc, argv, "seqpar"));
    } catch (...) {
        fmt::print(stderr, "seqpar: {}\n", failure_text());
        return refused;
    }
}
