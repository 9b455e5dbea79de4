#include "support/catch.hpp"

#include "run_program.hpp"

#include "../../tools/seqpar/machine_file.hpp"
#include "../../tools/seqpar/machine_named.hpp"
#include "../../tools/seqpar/shipped_machines.hpp"

#include <seqpar/core/error.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace seqpar_test;
using seqpar::plan::machine;
using seqpar::plan::network_shape;
using seqpar::tool::machine_json;
using seqpar::tool::machine_named;
using seqpar::tool::machine_sources;
using seqpar::tool::read_machine;

namespace {

const machine_sources sources{{"of rank"}, {"of node"}, {"of ports", "and more of ports"}, {"of network"}};

/// No two of its numbers are the same.
machine some_machine() {
    machine m;
    m.name = "some", m.title = "a machine of the test's";
    m.ranks_per_node = 6, m.memory = (std::size_t{5} << 30) + 12345;
    m.float32 = {1.1e12, 1.3e12}, m.float64 = {0.17e12, 0.19e12}, m.bfloat16 = {23e12, 29e12};
    m.call = 3.1e-6, m.inside = {1.3e-6, 4.7e9};
    m.ports = 3, m.port = {0.7e-6, 12.5e9};
    m.shape = network_shape::torus, m.extents = {4, 5, 7}, m.cable = {0.11e-6, 6.8e9};
    return m;
}

/// One place of a text replaced by another.
std::string with(std::string text, const std::string& part, const std::string& instead) {
    const std::size_t at = text.find(part);
    REQUIRE(at != std::string::npos);
    return text.replace(at, part.size(), instead);
}

/// `machines` refuses the text, in one line that has the file's name and these parts.
void must_refuse(const std::string& text, const std::vector<std::string>& parts) {
    const directory d;
    write_bytes(d / "my.json", text);
    const outcome r = run_program(d, "machines my.json");
    INFO(text << "\n" << r.out << r.err);
    CHECK(r.status == 2);
    CHECK(r.out.empty());
    CHECK(r.err.substr(0, 17) == "seqpar: my.json: ");
    CHECK(r.err.find('\n') == r.err.size() - 1);
    for (const std::string& part : parts) {
        INFO("expected: " << part);
        CHECK(contains(r.err, part));
    }
}

} // namespace

TEST_CASE("the machines that are shipped can be read, and have thousands of ranks") {
    std::set<std::string_view> names;
    for (const auto& shipped : seqpar::tool::shipped_machines()) {
        INFO(shipped.name);
        names.insert(shipped.name);
        const machine m = machine_named(std::string(shipped.name));
        CHECK(m.name == shipped.name);
        CHECK(m.ranks() >= 4096);
        CHECK(m.memory > std::size_t{1} << 30);
        for (const auto& rate : {m.float32, m.float64, m.bfloat16}) {
            CHECK(rate.backward > 1e11);
            CHECK(rate.backward <= rate.forward); // as of every published kernel
        }
        CHECK(m.float64.forward <= m.float32.forward);
        CHECK(m.float32.forward <= m.bfloat16.forward);
        for (const auto& c : {m.inside, m.port, m.cable}) {
            CHECK(c.latency > 1e-8);
            CHECK(c.latency < 1e-4);
            CHECK(c.bandwidth > 1e9);
        }
    }
    CHECK(names == std::set<std::string_view>{"cpu-cluster", "ethernet", "fugaku", "gb200", "h100"});
}

TEST_CASE("a description's numbers are in the units of their names") {
    const machine m = machine_named("h100");
    CHECK(m.ranks() == 4096);
    CHECK(m.ranks_per_node == 8);
    CHECK(m.memory == std::size_t{70} << 30);
    CHECK(m.call == 5e-6);
    CHECK(m.bfloat16 == seqpar::plan::compute_rate{648e12, 561e12}); // arXiv:2407.08608
    CHECK(m.inside == seqpar::plan::connection{3.4e-6, 450e9});
    CHECK(m.ports == 8);
    CHECK(m.port == seqpar::plan::connection{4e-6, 50e9});
    CHECK(m.shape == network_shape::fat_tree);
    CHECK(m.extents == std::vector<int>{32, 16, 1, 32});
    CHECK(m.cable == seqpar::plan::connection{0.3e-6, 400e9});

    const auto json = nlohmann::json::parse(machine_json(some_machine(), sources));
    CHECK(json["rank"]["kernel_call_us"] == 3.1);
    CHECK(json["rank"]["float64_TFLOPS"]["backward"] == 0.19);
    CHECK(json["node"]["latency_us"] == 1.3);
    CHECK(json["ports"]["bandwidth_GBps"] == 12.5);
    CHECK(json["network"]["cable_bandwidth_GBps"] == 6.8);
    CHECK(json["network"]["shape"] == "torus");
    CHECK(json["ports"]["source"] == std::vector<std::string>{"of ports", "and more of ports"});
}

TEST_CASE("what is written is read again as the same machine") {
    for (const auto& shipped : seqpar::tool::shipped_machines()) {
        const machine m = machine_named(std::string(shipped.name));
        CHECK(read_machine(machine_json(m, sources), "again") == m);
    }
    machine m = some_machine();
    CHECK(read_machine(machine_json(m, sources), "again") == m);
    CHECK(m.ranks() == 6 * 4 * 5 * 7);
    for (const auto& [shape, extents] : {std::pair(network_shape::one_switch, std::vector<int>{9}),
                                         std::pair(network_shape::fat_tree, std::vector<int>{3, 5, 1, 2}),
                                         std::pair(network_shape::dragonfly, std::vector<int>{2, 3, 4, 5})}) {
        m.shape = shape, m.extents = extents;
        CHECK(read_machine(machine_json(m, sources), "again") == m);
    }
    for (const double latency : {0., 1e-9, 1.2345678901234e-6, 7e-7, 12345e-6, 3e-13, 0.1}) {
        m.inside.latency = latency;
        CHECK(read_machine(machine_json(m, sources), "again") == m);
    }
    machine alone = some_machine();
    alone.shape = network_shape::none, alone.extents = {}, alone.ports = 1, alone.port = {}, alone.cable = {};
    const std::string text = machine_json(alone, sources);
    CHECK(!contains(text, "ports"));
    CHECK(!contains(text, "network"));
    CHECK(read_machine(text, "again") == alone);
    CHECK(alone.ranks() == 6);
}

TEST_CASE("machines lists what is shipped, and prints a description that can be copied and edited") {
    const directory d;
    const outcome listed = run_program(d, "machines");
    CHECK(listed.status == 0);
    for (const auto& shipped : seqpar::tool::shipped_machines()) {
        const machine m = machine_named(std::string(shipped.name));
        CHECK(contains(listed.out, m.name));
        CHECK(contains(listed.out, m.title));
        CHECK(contains(listed.out, std::to_string(m.ranks()) + " ranks"));
        const outcome printed = run_program(d, "machines " + m.name);
        CHECK(printed.status == 0);
        CHECK(printed.out == shipped.json);
    }
    CHECK(static_cast<std::size_t>(std::count(listed.out.begin(), listed.out.end(), '\n')) ==
          seqpar::tool::shipped_machines().size());

    const outcome edited =
        run_command(d, "'" + program + "' machines h100 | sed 's/\"h100\"/\"mine\"/; s/648/700/' > mine.json");
    REQUIRE(edited.status == 0);
    const machine mine = machine_named(d / "mine.json");
    CHECK(mine.name == "mine");
    CHECK(mine.bfloat16.forward == 700e12);
    CHECK(run_program(d, "machines mine.json").out == read_bytes(d / "mine.json"));
}

TEST_CASE("a machine that there is not is refused with those that there are") {
    const directory d;
    const auto refused = [&](const std::string& arguments) {
        const outcome r = run_program(d, arguments);
        CHECK(r.status == 2);
        CHECK(r.out.empty());
        return r.err;
    };
    const std::string unknown = refused("machines h10");
    CHECK(contains(unknown,
                   "machine 'h10' is unknown: allowed are cpu-cluster, ethernet, fugaku, gb200, h100, or a file"));
    CHECK(contains(unknown, "nearest is h100"));
    CHECK(contains(refused("machines this"), "seqpar calibrate -o this.json"));
    CHECK(contains(refused("machines none.json"), "none.json: there is no such file"));
    CHECK(contains(refused("machines h100 gb200"), "'gb200' is one argument too many"));
    CHECK(contains(refused("machine"), "nearest is machines"));
    CHECK(contains(refused("machines --name h100"), "unknown option '--name'"));
}

TEST_CASE("a description with an unknown, a missing or a wrong field is refused") {
    const std::string good = machine_json(some_machine(), sources);
    CHECK(read_machine(good, "good") == some_machine());

    must_refuse("", {"this is no JSON", "line 1"});
    must_refuse("{\"name\": \"x\",}", {"this is no JSON", "line 1"});
    must_refuse("[1, 2]", {"it is [1,2]: allowed is an object"});
    must_refuse("{}", {"name is missing"});
    must_refuse(with(good, "memory_GiB", "memory_GB"),
                {"rank.memory_GB is unknown", "source, memory_GiB, kernel_call_us", "nearest is memory_GiB"});
    must_refuse(with(good, "\"network\"", "\"netwrok\""), {"netwrok is unknown", "nearest is network"});
    must_refuse(with(good, "\"kernel_call_us\": 3.1,", ""), {"rank.kernel_call_us is missing"});
    must_refuse(with(good, "\"title\"", "\"name\""), {"title is missing"});
    for (const std::string group : {"rank", "node", "network"})
        must_refuse(with(good, "\"source\": [\n      \"of " + group + "\"\n    ],", ""),
                    {group + ".source is missing: say where the numbers beside it come from"});
    must_refuse(with(good, "\"of rank\"", ""), {"rank.source is []: allowed is a text, or a list of texts"});
    must_refuse(with(good, "\"of rank\"", "\"\""), {"rank.source is [\"\"]"});
    must_refuse(with(good, "\"of rank\"", "7"), {"rank.source is [7]"});

    must_refuse(with(good, "\"some\"", "7"), {"name is 7: allowed is a text"});
    must_refuse(with(good, "\"some\"", "\"\""), {"name is \"\": allowed is a text"});
    must_refuse(with(good, "\"latency_us\": 1.3", "\"latency_us\": \"fast\""),
                {"node.latency_us is \"fast\": allowed is a number of 0 or more"});
    must_refuse(with(good, "\"latency_us\": 1.3", "\"latency_us\": -1"), {"node.latency_us is -1"});
    must_refuse(with(good, "\"bandwidth_GBps\": 4.7", "\"bandwidth_GBps\": 0"),
                {"node.bandwidth_GBps is 0: allowed is a number above 0"});
    must_refuse(with(good, "\"forward\": 1.1", "\"forward\": null"), {"rank.float32_TFLOPS.forward is null"});
    must_refuse(with(good, "\"forward\": 1.1", "\"forward\": 1e300"), {"rank.float32_TFLOPS.forward is 1e+300"});
    must_refuse(with(good, "\"ranks\": 6", "\"ranks\": 6.5"), {"node.ranks is 6.5: allowed is a whole number from 1"});
    must_refuse(with(good, "\"ranks\": 6", "\"ranks\": 0"), {"node.ranks is 0"});
    must_refuse(with(good, "\"ranks\": 6", "\"ranks\": 18446744073709551615"), {"node.ranks is 18446744073709551615"});
    must_refuse(with(good, "\"torus\"", "\"tours\""), {"network.shape 'tours' is unknown", "nearest is torus"});
    must_refuse(with(good, "\"torus\"", "\"dragonfly\""), {"machine 'some'"});
    must_refuse(with(good, "\"per_node\": 3", "\"per_node\": 4"), {"machine 'some'", "4"});
    must_refuse(with(good, "5,\n      7", "5,\n      -7"), {"network.extents[2] is -7"});
    must_refuse(with(good, "\"node\": {", "\"node\": 7, \"nodes\": {"), {"nodes is unknown"});
    must_refuse(std::string(2 << 20, ' '), {"2097152 bytes"});

    auto json = nlohmann::json::parse(good);
    json.erase("ports");
    must_refuse(json.dump(), {"ports is missing"});
    json = nlohmann::json::parse(good);
    json["node"] = std::string(1000, 'x');
    must_refuse(json.dump(), {"node is \"xxx", "...: allowed is an object"});
    json["node"] = nlohmann::json::parse(good)["node"];
    json["rank"]["memory_GiB"] = 0;
    must_refuse(json.dump(), {"rank.memory_GiB is 0"});
    must_refuse(with(good, "\"of rank\"", "\"\xff\""), {"this is no JSON"});
}
