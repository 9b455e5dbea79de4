#include "machine_options.hpp"

#include "machine_named.hpp"
#include "words.hpp"

#include <seqpar/core/error.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace seqpar::tool {

void add_machines(CLI::App& program, machines_texts& to) {
    CLI::App& c = *program.add_subcommand("machines", "List the machines that are described, or print a description");
    c.add_option("MACHINE", to.machine, "print this one's: a name of the list, or a file, FILE.json, which is checked")
        ->type_name("");
}

void add_calibrate(CLI::App& program, calibrate_texts& to) {
    CLI::App& c = *program.add_subcommand(
        "calibrate", "Measure this machine: the kernel's rates, and the communicator's latency and bandwidth");
    c.add_option("-o,--out", to.out, "write its description to this file, FILE.json")->type_name("FILE");
    c.add_option("--ranks", to.ranks,
                 "1 to 1024 ranks, busy at once, of one thread each (default: a rank for each core; under mpirun the "
                 "job's size)")
        ->type_name("P");
}

machines_command read(const machines_texts& from) { return {from.machine}; }

calibrate_command read(const calibrate_texts& from) {
    calibrate_command to{from.out, {}};
    if (to.out && !is_machine_file(*to.out))
        throw refusal(
            fmt::format("-o {}: the name of a machine's file ends in .json: nearest is {}.json", *to.out, *to.out));
    if (from.ranks) to.ranks = static_cast<int>(whole_number("--ranks", *from.ranks, 1, 1024));
    return to;
}

} // namespace seqpar::tool
