#include "machine_options.hpp"

#include <CLI/CLI.hpp>

namespace seqpar::tool {

void add_machines(CLI::App& program, machines_texts& to) {
    CLI::App& c = *program.add_subcommand("machines", "List the machines that are described, or print a description");
    c.add_option("MACHINE", to.machine, "print this one's: a name of the list, or a file, FILE.json, which is checked")
        ->type_name("");
}

machines_command read(const machines_texts& from) { return {from.machine}; }

} // namespace seqpar::tool
