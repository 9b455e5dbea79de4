#include "machine_named.hpp"

#include "file_trouble.hpp"
#include "machine_file.hpp"
#include "shipped_machines.hpp"
#include "words.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <vector>

namespace seqpar::tool {
namespace {

[[nodiscard]] std::string read_file(const std::string& path) {
    constexpr std::uintmax_t most = 1 << 20;
    if (const std::uintmax_t size = size_of_readable_file(path); size > most)
        throw refusal(fmt::format("{}: has {} bytes, too many for a machine: allowed are {}", path, size, most));
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

[[nodiscard]] const shipped_machine* shipped(std::string_view name) {
    const auto all = shipped_machines();
    const auto found = std::find_if(all.begin(), all.end(), [&](const shipped_machine& m) { return m.name == name; });
    return found == all.end() ? nullptr : &*found;
}

/// The JSON text of a machine, not yet read.
[[nodiscard]] std::string machine_text(const std::string& name) {
    if (const shipped_machine* const found = shipped(name)) return std::string(found->json);
    if (is_machine_file(name)) return read_file(name);
    if (name == "this")
        throw refusal("machine 'this' is not shipped, it is measured: `seqpar calibrate -o this.json` writes "
                      "this.json, which takes its place");
    std::vector<std::string_view> known;
    for (const shipped_machine& m : shipped_machines()) known.push_back(m.name);
    throw refusal(
        fmt::format("machine '{}' is unknown: allowed are {}, or a file whose name ends in .json; nearest is {}", name,
                    list(known), nearest(name, known)));
}

} // namespace

plan::machine machine_named(const std::string& name) {
    return read_machine(machine_text(name), shipped(name) != nullptr ? fmt::format("machine {}", name) : name);
}

std::string describe_machines(const std::optional<std::string>& name) {
    if (name) {
        static_cast<void>(machine_named(*name));
        return machine_text(*name);
    }
    std::string text;
    for (const shipped_machine& one : shipped_machines()) {
        const plan::machine m = machine_named(std::string(one.name));
        text += fmt::format("{:<12}{:>6} ranks  {}\n", m.name, m.ranks(), m.title);
    }
    return text;
}

} // namespace seqpar::tool
