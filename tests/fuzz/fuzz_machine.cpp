/// Descriptions of machines: any bytes are a machine that can be written and read again, or are refused with a message.
#include "finding.hpp"

#include "../../tools/seqpar/machine_file.hpp"

#include <seqpar/core/error.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

using seqpar_fuzz::expect_a_message;
using seqpar_fuzz::finding;

void expect(bool true_of_it, const char* what) {
    if (!true_of_it) finding(std::string("a machine was accepted, but ") + what);
}

void check(const seqpar::plan::machine& m) {
    expect(!m.name.empty() && !m.title.empty(), "it has no name or title");
    expect(m.ranks() >= 1 && m.ranks_per_node >= 1, "it has no ranks");
    expect(m.memory >= 1, "it has no memory");
    for (const auto& rate : {m.float32, m.float64, m.bfloat16})
        for (const double flops : {rate.forward, rate.backward})
            expect(std::isfinite(flops) && flops > 0, "a rate is no number above 0");
    expect(std::isfinite(m.call) && m.call >= 0, "a call of the kernel takes less than nothing");
    const bool one_node = m.shape == seqpar::plan::network_shape::none;
    for (const auto& c : {m.inside, one_node ? m.inside : m.port, one_node ? m.inside : m.cable})
        expect(std::isfinite(c.latency) && c.latency >= 0 && std::isfinite(c.bandwidth) && c.bandwidth > 0,
               "a connection is none");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    seqpar::plan::machine m;
    try {
        m = seqpar::tool::read_machine(text, "it");
    } catch (const seqpar::refusal& why) {
        expect_a_message(why.what());
        return 0;
    }
    check(m);
    try {
        check(seqpar::tool::read_machine(seqpar::tool::machine_json(m, {{"r"}, {"n"}, {"p"}, {"w"}}), "again"));
    } catch (const seqpar::refusal& why) {
        finding(std::string("what was written of a machine is refused: ") + why.what());
    }
    return 0;
}
