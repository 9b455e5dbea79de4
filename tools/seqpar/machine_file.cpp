#include "machine_file.hpp"

#include "json_object.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <cstdint>

namespace seqpar::tool {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using plan::network_shape;

/// In the order of the type; none is said by leaving ports and network out.
constexpr std::array<std::string_view, 4> shapes{"one_switch", "fat_tree", "torus", "dragonfly"};
constexpr int micro = -6, giga = 9, tera = 12;
constexpr double gibibyte = 0x1p30;
constexpr index_t most = 1 << 20;

[[nodiscard]] json parse(std::string_view text, const std::string& from) {
    try {
        return json::parse(text);
    } catch (const json::exception& why) {
        const std::string_view all = why.what();
        const std::size_t tag = all.find("] "); // "[json.exception.parse_error.101] parse error at line ..."
        throw refusal(fmt::format("{}: this is no JSON: {}", from, tag == all.npos ? all : all.substr(tag + 2)));
    }
}

[[nodiscard]] plan::compute_rate read_rate(const json_object& rank, const char* field) {
    const json_object of = rank.object(field, {"forward", "backward"});
    return {of.above_0("forward", tera), of.above_0("backward", tera)};
}

void read_rank(const json_object& from, plan::machine& to) {
    static_cast<void>(from.texts("source"));
    to.memory = static_cast<std::size_t>(std::llround(from.between("memory_GiB", 1 / gibibyte, most) * gibibyte));
    to.call = from.not_below_0("kernel_call_us", micro);
    to.float32 = read_rate(from, "float32_TFLOPS");
    to.float64 = read_rate(from, "float64_TFLOPS");
    to.bfloat16 = read_rate(from, "bfloat16_TFLOPS");
}

[[nodiscard]] plan::connection read_connection(const json_object& from, const char* latency, const char* bandwidth) {
    return {from.not_below_0(latency, micro), from.above_0(bandwidth, giga)};
}

void read_node(const json_object& from, plan::machine& to) {
    static_cast<void>(from.texts("source"));
    to.ranks_per_node = from.whole("ranks", 1, most);
    to.inside = read_connection(from, "latency_us", "bandwidth_GBps");
}

void read_network(const json_object& top, plan::machine& to) {
    const json_object ports = top.object("ports", {"source", "per_node", "latency_us", "bandwidth_GBps"});
    static_cast<void>(ports.texts("source"));
    to.ports = ports.whole("per_node", 1, most);
    to.port = read_connection(ports, "latency_us", "bandwidth_GBps");
    const json_object network =
        top.object("network", {"source", "shape", "extents", "cable_latency_us", "cable_bandwidth_GBps"});
    static_cast<void>(network.texts("source"));
    to.shape = static_cast<network_shape>(network.choice("shape", shapes) + 1);
    to.extents = network.wholes("extents", 1, most);
    to.cable = read_connection(network, "cable_latency_us", "cable_bandwidth_GBps");
}

/// As JSON writes it: whole numbers without a point.
[[nodiscard]] ordered_json number(double x) {
    if (std::trunc(x) == x && std::abs(x) < 0x1p53) return static_cast<std::int64_t>(x);
    return x;
}

[[nodiscard]] ordered_json rate(const plan::compute_rate& r) {
    return {{"forward", number(scaled(r.forward, -tera))}, {"backward", number(scaled(r.backward, -tera))}};
}

} // namespace

plan::machine read_machine(std::string_view text, const std::string& from) {
    const json all = parse(text, from);
    const json_object top(all, from, "", {"name", "title", "rank", "node"}, {"ports", "network"});
    plan::machine m;
    m.name = top.text("name");
    m.title = top.text("title");
    read_rank(top.object("rank", {"source", "memory_GiB", "kernel_call_us", "float32_TFLOPS", "float64_TFLOPS",
                                  "bfloat16_TFLOPS"}),
              m);
    read_node(top.object("node", {"source", "ranks", "latency_us", "bandwidth_GBps"}), m);
    if (top.has("ports") || top.has("network"))
        read_network(json_object(all, from, "", {"name", "title", "rank", "node", "ports", "network"}), m);
    try {
        static_cast<void>(m.ranks());
    } catch (const refusal& why) {
        throw refusal(fmt::format("{}: {}", from, why.what()));
    }
    return m;
}

std::string machine_json(const plan::machine& m, const machine_sources& sources) {
    const auto us = [](double seconds) { return number(scaled(seconds, -micro)); };
    const auto gigabytes = [](double bytes) { return number(scaled(bytes, -giga)); };
    ordered_json all;
    all["name"] = m.name;
    all["title"] = m.title;
    all["rank"] = {{"source", sources.rank},
                   {"memory_GiB", number(static_cast<double>(m.memory) / gibibyte)},
                   {"kernel_call_us", us(m.call)},
                   {"float32_TFLOPS", rate(m.float32)},
                   {"float64_TFLOPS", rate(m.float64)},
                   {"bfloat16_TFLOPS", rate(m.bfloat16)}};
    all["node"] = {{"source", sources.node},
                   {"ranks", m.ranks_per_node},
                   {"latency_us", us(m.inside.latency)},
                   {"bandwidth_GBps", gigabytes(m.inside.bandwidth)}};
    if (m.shape != network_shape::none) {
        all["ports"] = {{"source", sources.ports},
                        {"per_node", m.ports},
                        {"latency_us", us(m.port.latency)},
                        {"bandwidth_GBps", gigabytes(m.port.bandwidth)}};
        all["network"] = {{"source", sources.network},
                          {"shape", shapes[static_cast<std::size_t>(m.shape) - 1]},
                          {"extents", m.extents},
                          {"cable_latency_us", us(m.cable.latency)},
                          {"cable_bandwidth_GBps", gigabytes(m.cable.bandwidth)}};
    }
    return all.dump(2) + '\n';
}

} // namespace seqpar::tool
