#include "support/catch.hpp"

#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <map>
#include <set>
#include <string>
#include <vector>

using namespace seqpar_test;

namespace {

std::vector<std::string> names_of(const nlohmann::json& table) {
    std::vector<std::string> names;
    for (const auto& row : table["rows"]) names.push_back(row["strategy"]);
    return names;
}

std::string last_line(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text.substr(text.rfind('\n') + 1);
}

} // namespace

TEST_CASE("compare verifies every strategy that applies, with bytes and messages as predicted") {
    const directory d;
    inputs(2, 26, 26, 6, 3, 8, 6).write(d);
    const std::vector<std::string> common{"serial", "ulysses", "all-gather", "all-gather:stream=1", "ring", "tree"};
    std::map<int, std::vector<std::string>> expected;
    for (const int ranks : {1, 2, 3, 4, 6}) expected[ranks] = common;
    for (const int ranks : {4, 6}) {
        expected[ranks].emplace_back("grid");
        expected[ranks].emplace_back("ulysses:2/ring");
        expected[ranks].emplace_back("ulysses:2/all-gather");
    }
    const std::vector<std::string> scores{"", "--causal", "--window 7,3"}, layouts{"contiguous", "zigzag", "striped"};
    std::size_t turn = 0;
    for (const auto& entry : expected)
        for (const std::string& score : scores) {
            const std::string& layout = layouts[turn++ % 3];
            const std::string arguments = "compare q.npy k.npy v.npy --json t.json --ranks " +
                                          std::to_string(entry.first) + " --layout " + layout + " " + score;
            const outcome r = run_program(d, arguments);
            INFO(arguments << "\n" << r.out << r.err);
            REQUIRE(r.status == 0);
            CHECK(last_line(r.out) == "all " + std::to_string(entry.second.size()) + " schemes verified");
            const auto table = nlohmann::json::parse(read_bytes(d / "t.json"));
            CHECK(names_of(table) == entry.second);
            CHECK(table["verified"] == true);
            CHECK(table["scheme"]["ranks"] == entry.first);
            CHECK(table["scheme"]["layout"] == layout);
            for (const auto& row : table["rows"]) {
                INFO(row["strategy"]);
                CHECK(row["verified"] == true);
                CHECK(row["bytes_sent"]["equal_on_every_rank"] == true);
                CHECK(row["messages_sent"]["equal_on_every_rank"] == true);
                CHECK(row["faults"].empty());
                CHECK(row["rows_judged"] == 2 * 26 * 6);
                CHECK(row["share_of_bound"] > 0);
                CHECK(row["share_of_bound"] <= 1);
                CHECK(row["seconds"] > 0);
                CHECK(row["peak_extra_memory"]["counted"]["max_per_rank"] > 0);
            }
        }
}

TEST_CASE("what compare counts is what the formulas say") {
    const directory d;
    const std::size_t n = 8, heads = 4, kv = 2, dim = 8; // rows per rank, of 4 ranks
    inputs(1, 4 * n, 4 * n, heads, kv, dim, dim).write(d);
    REQUIRE(run_program(d, "compare q.npy k.npy v.npy --ranks 4 --json t.json").status == 0);
    const auto table = nlohmann::json::parse(read_bytes(d / "t.json"));
    const std::size_t h = heads * dim, k = kv * dim, m = 3;
    std::map<std::string, std::pair<std::size_t, std::size_t>> expected; // bytes, messages
    expected["serial"] = {0, 0};
    expected["ring"] = {4 * 2 * n * k * m, m};
    expected["all-gather"] = {4 * 2 * n * k * m, m};
    expected["all-gather:stream=1"] = {4 * 2 * n * k * m, 2 * m};
    // each of 4 ranks has one head and reads one kv head: k' = 4 * dim; lse goes home, too
    expected["ulysses"] = {4 * (2 * h + 2 * 4 * dim) * n * m / 4 + 4 * heads * n * m / 4, 2 * m};
    for (const auto& row : table["rows"]) {
        const auto found = expected.find(row["strategy"]);
        if (found == expected.end()) continue;
        INFO(row.dump(2));
        CHECK(row["bytes_sent"]["counted"]["max_per_rank"] == found->second.first);
        CHECK(row["bytes_sent"]["counted"]["total"] == (found->first == "serial" ? 0 : 4 * found->second.first));
        CHECK(row["messages_sent"]["counted"]["max_per_rank"] == found->second.second);
    }
}

TEST_CASE("compare may be told which strategies, and takes every other option") {
    const directory d;
    inputs in(1, 19, 23, 4, 2, 8, 8);
    for (array* a : {&in.q, &in.k, &in.v}) a->type = "<f8";
    in.write(d);
    const outcome r = run_program(
        d, "compare q.npy k.npy v.npy --json t.json --ranks 6 --strategy ring,ulysses:3/all-gather:stream=1 "
           "--causal --align bottom-right --scale 0.2 --threads-per-rank 2 --kernel reference");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    CHECK(contains(r.out, "float64"));
    CHECK(contains(r.out, "reference"));
    CHECK(contains(r.out, "bottom-right"));
    const auto table = nlohmann::json::parse(read_bytes(d / "t.json"));
    CHECK(names_of(table) == std::vector<std::string>{"serial", "ring", "ulysses:3/all-gather:stream=1"});
    CHECK(table["scheme"]["type"] == "float64");
    CHECK(table["scheme"]["scale"] == 0.2);
    CHECK(table["shape"]["queries"] == 19);
    CHECK(table["shape"]["keys"] == 23);
}

TEST_CASE("verify says what it verified, and writes what is right") {
    const directory d;
    inputs(1, 40, 40, 4, 2, 8, 8).write(d);
    const outcome r = run_program(
        d, "verify q.npy k.npy v.npy --strategy ulysses:2/ring --ranks 4 --layout zigzag --causal -o o.npy");
    INFO(r.out << r.err);
    CHECK(r.status == 0);
    for (const char* part :
         {"verified", "ulysses:2/ring, zigzag, causal", "4 ranks", "rows judged 160 of 160", "40 queries and keys"})
        CHECK(contains(r.out, part));
    REQUIRE(run_program(d, "attend q.npy k.npy v.npy --strategy ulysses:2/ring --ranks 4 --layout zigzag --causal -o "
                           "a.npy --lse l.npy")
                .status == 0);
    CHECK(read_bytes(d / "a.npy") == read_bytes(d / "o.npy"));
}

TEST_CASE("a result that is wrong is told, and not written") {
    // the sum of two values of 3e38 is beyond float, though their mean is not
    const directory d;
    inputs in(1, 16, 16, 2, 2, 8, 8);
    for (double& x : in.v.values) x = 3e38;
    in.write(d);
    const outcome r = run_program(d, "verify q.npy k.npy v.npy -o o.npy");
    CHECK(r.status == 1);
    CHECK(contains(r.out, "FAILED"));
    CHECK(d.names() == std::set<std::string>{"q.npy", "k.npy", "v.npy"});
    const outcome table = run_program(d, "compare q.npy k.npy v.npy --ranks 2 --json t.json");
    CHECK(table.status == 1);
    CHECK(contains(last_line(table.out), "FAILED: 6 of 6 schemes: serial, ulysses"));
    CHECK(nlohmann::json::parse(read_bytes(d / "t.json"))["verified"] == false);
}
