#include "calibration.hpp"

#include "choices.hpp"
#include "kernel_trial.hpp"
#include "memory_here.hpp"
#include "processor.hpp"
#include "text_table.hpp"
#include "units.hpp"

#include <seqpar/version.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace seqpar::tool {
namespace {

/// To four digits: what is measured has no more.
[[nodiscard]] double rounded(double x) { return std::strtod(fmt::format("{:.3e}", x).c_str(), nullptr); }

[[nodiscard]] plan::compute_rate rate(const calibration::rates& r) {
    return {rounded(r.forward_flops / r.forward.median()), rounded(r.backward_flops / r.backward.median())};
}

/// A rank's share of the memory, less what would be digits without a meaning.
[[nodiscard]] std::size_t share_of_memory(int ranks) {
    constexpr std::size_t grain = std::size_t{1} << 26;
    const std::size_t share = memory_here() / static_cast<std::size_t>(ranks);
    return share < grain ? share : share / grain * grain;
}

using row = std::vector<std::string>;

[[nodiscard]] row table_row(std::string what, std::string value, const measurement& m) {
    return {std::move(what), std::move(value), fmt::format("{:.0f}%", 100 * m.spread()),
            fmt::format("{}", m.seconds.size())};
}

void add_rates(std::vector<row>& to, const char* type, const calibration::rates& r) {
    const plan::compute_rate of = rate(r);
    to.push_back(
        table_row(fmt::format("{} forward", type), fmt::format("{:.1f} GFLOP/s", of.forward / 1e9), r.forward));
    to.push_back(
        table_row(fmt::format("{} backward", type), fmt::format("{:.1f} GFLOP/s", of.backward / 1e9), r.backward));
}

} // namespace

double measurement::median() const {
    std::vector<double> all = seconds;
    std::sort(all.begin(), all.end());
    const std::size_t half = all.size() / 2;
    return all.size() % 2 == 1 ? all[half] : (all[half - 1] + all[half]) / 2;
}

double measurement::spread() const {
    const auto [least, most] = std::minmax_element(seconds.begin(), seconds.end());
    return (*most - *least) / median();
}

double calibration::bandwidth(const transfer& t) const {
    // Where noise makes latency the larger part of a block's time, it is left in.
    const double whole = t.time.median(), rest = whole - latency.median();
    return static_cast<double>(t.bytes) / (rest > whole / 2 ? rest : whole);
}

plan::machine calibration::machine() const {
    double seconds_per_byte = 0; // the mean over the sizes
    for (const transfer& t : transfers) seconds_per_byte += 1 / bandwidth(t) / static_cast<double>(transfers.size());
    plan::machine m;
    m.name = "this";
    m.title = fmt::format("{}, {} ({})", processor_name(), ranks_text(ranks), world);
    m.ranks_per_node = ranks;
    m.memory = share_of_memory(ranks);
    m.float32 = rate(float32), m.float64 = rate(float64), m.bfloat16 = rate(bfloat16);
    m.call = rounded(call.median());
    m.inside = {rounded(latency.median()), rounded(1 / seconds_per_byte)};
    return m;
}

std::string calibration::how() const {
    return fmt::format("{} ({}), one thread each, all busy at once, on {}", ranks_text(ranks), world, processor_name());
}

machine_sources calibration::sources() const {
    return {.rank = {fmt::format("measured by seqpar {} calibrate: {}", version_string, how()),
                     fmt::format("rates: kernel {}, one head of {}, {} rows and keys; median of repeats",
                                 kernel_text("flash"), kernel_trial<float>::head_dim, rows),
                     "kernel call: forward of one row and one key", "memory: that of the machine, shared by the ranks"},
            .node = {fmt::format("measured by seqpar {} calibrate: {}", version_string, how()),
                     ranks == 1 ? "latency: of a byte that a rank sends to itself"
                                : "latency: half of the time in which a byte goes from one rank to the next and back",
                     "bandwidth: each rank sends to the next and receives from the one before; mean time of a byte in "
                     "blocks of 1 to 16 MiB, less the latency"},
            .ports = {},
            .network = {}};
}

bool calibration::noisy() const {
    for (const rates* r : {&float32, &float64, &bfloat16})
        if (r->forward.spread() > 0.25 || r->backward.spread() > 0.25) return true;
    return false;
}

std::string calibration::text() const {
    const plan::machine m = machine();
    std::vector<row> rows_of{{"", "measured", "spread", "repeats"}};
    add_rates(rows_of, "float32", float32);
    add_rates(rows_of, "float64", float64);
    add_rates(rows_of, "bfloat16", bfloat16);
    rows_of.push_back(table_row("kernel call", fmt::format("{:.2f} us", m.call * 1e6), call));
    rows_of.push_back(table_row("message latency", fmt::format("{:.2f} us", m.inside.latency * 1e6), latency));
    for (const transfer& t : transfers)
        rows_of.push_back(table_row(fmt::format("blocks of {}", bytes_text(t.bytes)),
                                    fmt::format("{:.2f} GB/s", bandwidth(t) / 1e9), t.time));
    std::string text = fmt::format("{}; kernel {}\n\n{}\n", how(), kernel_text("flash"), text_table(rows_of));
    text += fmt::format("bandwidth: {:.2f} GB/s each way, the mean over the sizes; memory: {} a rank\n"
                        "spread: (largest - smallest) / median of the repeats\n",
                        m.inside.bandwidth / 1e9, bytes_text(m.memory));
    if (noisy())
        text += "rates spread by more than a quarter: something else runs here; measure again when it does not\n";
    return text;
}

} // namespace seqpar::tool
