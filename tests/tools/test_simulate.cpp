#include "support/catch.hpp"

#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

using namespace seqpar_test;
using nlohmann::json;

namespace {

const std::string attention = " --tokens 32K --heads 16 --kv-heads 4 --head-dim 64 --machine h100 ";

/// Whether the program has the command: without SimGrid it says so.
bool is_built() {
    const directory d;
    const outcome r = run_program(d, "simulate --strategy ring --ranks 2" + attention);
    if (r.status == 0) return true;
    INFO(r.out << r.err);
    CHECK(r.status == 2);
    CHECK(contains(r.err, "built without SimGrid"));
    CHECK(contains(r.err, "libsimgrid-dev"));
    return false;
}

json simulated(const directory& d, const std::string& arguments) {
    const outcome r = run_program(d, "simulate" + arguments + " --json run.json");
    INFO(arguments << "\n" << r.out << r.err);
    REQUIRE(r.status == 0);
    CHECK(r.err.empty());
    return json::parse(read_bytes(d / "run.json"));
}

void must_refuse(const std::string& arguments, const std::vector<std::string>& parts) {
    const directory d;
    const outcome r = run_program(d, "simulate" + arguments);
    INFO("simulate" << arguments << "\n" << r.out << r.err);
    CHECK(r.status == 2);
    CHECK(r.out.empty());
    CHECK(d.names().empty());
    for (const std::string& part : parts) {
        INFO("expected: " << part);
        CHECK(contains(r.err, part));
    }
}

/// Sum of a list of JSON numbers.
std::size_t sum(const json& numbers) {
    std::size_t all = 0;
    for (const json& n : numbers) all += n.get<std::size_t>();
    return all;
}

} // namespace

TEST_CASE("simulate runs each strategy, and has its closed form beside it") {
    if (!is_built()) return;
    const directory d;
    const json all = simulated(d, attention + "--strategy ring,ulysses:4/ring,tree,all-gather:doubling --ranks 16 "
                                              "--layout zigzag --causal --train --save keep");
    CHECK(all["layout"] == "zigzag");
    CHECK(all["save"] == "keep");
    CHECK(all["asked"]["score"] == "causal(top-left)");
    REQUIRE(all["schemes"].size() == 4);
    const std::vector<std::string> names{"ring", "ulysses:4/ring", "tree", "all-gather:doubling"};
    for (std::size_t i = 0; i < names.size(); ++i) {
        const json& s = all["schemes"][i];
        INFO(s.dump(1));
        CHECK(s["strategy"] == names[i]);
        CHECK(s["memory_bytes"] > 0);
        for (const char* pass : {"forward", "backward"}) {
            const json& p = s[pass];
            CHECK(p["ratio"].get<double>() == Approx(1).epsilon(0.1));
            CHECK(p["closed_form"]["seconds"].get<double>() ==
                  Approx(p["ratio"].get<double>() * p["seconds"].get<double>()));
            REQUIRE(p["busy_of_ranks"].size() == 16);
            for (const json& share : p["busy_of_ranks"]) {
                CHECK(share > 0.01);
                CHECK(share <= 1.0000001);
            }
            CHECK(p["within_nodes"]["bytes"] > 0);
            CHECK(p["between_nodes"]["bytes"] > 0);
            CHECK(p["within_nodes"]["bytes"].get<std::size_t>() + p["between_nodes"]["bytes"].get<std::size_t>() ==
                  sum(p["bytes_sent_of_ranks"]));
            CHECK(p["within_nodes"]["messages"].get<std::size_t>() +
                      p["between_nodes"]["messages"].get<std::size_t>() ==
                  sum(p["messages_sent_of_ranks"]));
            const auto sent = p["bytes_sent_of_ranks"].get<std::vector<std::size_t>>();
            CHECK(p["closed_form"]["max_bytes_sent_of_a_rank"] == *std::max_element(sent.begin(), sent.end()));
        }
    }
    // A ring of 16 goes out of each node once.
    const json& ring = all["schemes"][0]["forward"];
    CHECK(ring["messages_sent_of_ranks"] == std::vector<int>(16, 15));
    CHECK(ring["between_nodes"]["messages"] == 2 * 15);
}

TEST_CASE("the command that plan prints runs, and agrees with the plan") {
    if (!is_built()) return;
    const directory d;
    for (const char* arguments : {" --ranks 64 --causal --train", " --ranks 32 --window 2047,0", " --ranks 24"}) {
        const outcome planned = run_program(d, "plan" + attention + arguments + " --json plan.json");
        INFO(planned.out << planned.err);
        REQUIRE(planned.status == 0);
        const json plan = json::parse(read_bytes(d / "plan.json"));
        const std::string check = plan["check"], begin = "seqpar simulate ";
        REQUIRE(check.substr(0, begin.size()) == begin);
        const json run = simulated(d, " " + check.substr(begin.size()));
        const json &winner = plan["schemes"][0], &seen = run["schemes"][0];
        CHECK(seen["strategy"] == winner["strategy"]);
        CHECK(run["layout"] == winner["layout"]);
        CHECK(seen["memory_bytes"] == winner["memory_bytes"]);
        CHECK(seen["seconds"].get<double>() == Approx(winner["seconds"].get<double>()).epsilon(0.1));
    }
}

TEST_CASE("simulate's table says what was asked, and twice the same") {
    if (!is_built()) return;
    const directory d;
    const std::string command = "simulate --strategy ring,ulysses --ranks 16 --storage float" + attention;
    const auto table = [&] {
        const outcome r = run_program(d, command);
        INFO(r.out << r.err);
        REQUIRE(r.status == 0);
        CHECK(d.names().empty());
        return r.out.substr(0, r.out.find("Simulated in"));
    };
    const std::string first = table();
    CHECK(table() == first);
    for (const char* part :
         {"batch 1, 32768 queries and keys, 16 heads of 64, 4 kv heads, float32", "full, forward; 16 ranks of h100",
          "contiguous; simulated", "closed form", "within nodes", "between nodes", "\nring ", "\nulysses "}) {
        INFO("expected: " << part);
        CHECK(contains(first, part));
    }
}

TEST_CASE("simulate's trace has a row for each rank, on which nothing overlaps") {
    if (!is_built()) return;
    const directory d;
    const json run =
        simulated(d, attention + "--strategy ring,ulysses:4/ring --ranks 16 --causal --train --trace t.json");
    const json trace = json::parse(read_bytes(d / "t.json"));
    struct row {
        std::vector<std::pair<double, double>> spans; // begin and end, microseconds
        std::map<std::string, double> busy;
        std::string name;
    };
    std::map<std::pair<int, int>, row> rows; // strategy, rank
    std::map<int, std::string> processes;
    for (const json& e : trace["traceEvents"]) {
        if (e["name"] == "process_name") {
            processes[e["pid"].get<int>()] = e["args"]["name"];
            continue;
        }
        row& of = rows[{e["pid"].get<int>(), e["tid"].get<int>()}];
        if (e["name"] == "thread_name") of.name = e["args"]["name"];
        if (e["ph"] != "X") continue;
        const double begin = e["ts"], length = e["dur"];
        CHECK(length > 0);
        of.spans.emplace_back(begin, begin + length);
        CHECK((e["cat"] == "wait" || e["cat"] == "kernel"));
        of.busy[e["name"].get<std::string>()] += length;
    }
    CHECK(processes == std::map<int, std::string>{{0, "ring"}, {1, "ulysses:4/ring"}});
    REQUIRE(rows.size() == 2 * 16);
    for (auto& [of, r] : rows) {
        INFO("strategy " << of.first << ", rank " << of.second);
        CHECK(r.name == "rank " + std::to_string(of.second));
        std::sort(r.spans.begin(), r.spans.end());
        bool overlap = false;
        for (std::size_t i = 1; i < r.spans.size(); ++i)
            overlap = overlap || r.spans[i].first < r.spans[i - 1].second - 1e-4;
        CHECK_FALSE(overlap);
        CHECK(r.busy["wait"] > 0);
        for (const char* pass : {"forward", "backward"}) {
            const json& p = run["schemes"][static_cast<std::size_t>(of.first)][pass];
            const double share = p["busy_of_ranks"][static_cast<std::size_t>(of.second)];
            CHECK(r.busy[pass] / 1e6 == Approx(share * p["seconds"].get<double>()).epsilon(1e-3));
        }
    }
}

TEST_CASE("tracing does not change what is simulated") {
    if (!is_built()) return;
    const directory d;
    const std::string command = attention + "--strategy ulysses:4/ring --ranks 16 --causal";
    const json plain = simulated(d, command), traced = simulated(d, command + " --trace t.json");
    CHECK(plain["schemes"][0]["seconds"].get<double>() == Approx(traced["schemes"][0]["seconds"].get<double>()));
    CHECK(plain["schemes"][0]["forward"]["bytes_sent_of_ranks"] ==
          traced["schemes"][0]["forward"]["bytes_sent_of_ranks"]);
}

TEST_CASE("simulate refuses what cannot be, with the nearest that can") {
    if (!is_built()) return;
    const std::string ring = " --strategy ring" + attention;
    must_refuse(ring + "--ranks 0", {"--ranks 0 is out of range", "nearest is 1"});
    must_refuse(ring + "--ranks 5000", {"5000 ranks", "which has 4096", "the nearest is 4096"});
    must_refuse(attention + "--strategy ulysses:3/ring --ranks 8", {"ulysses of degree 3", "allowed are 1, 2, 4, 8"});
    must_refuse(attention + "--strategy ring:double=3 --ranks 8", {"inner rings of 3 ranks", "8"});
    must_refuse(attention + "--strategy grid:3x2 --ranks 8", {"3x2"});
    must_refuse(attention + "--strategy rung --ranks 8", {"'rung' is unknown", "nearest is ring"});
    must_refuse(attention + "--ranks 8", {"--strategy"});
    must_refuse(ring + "--ranks 8 --layout zagzig", {"'zagzig'", "nearest is zigzag"});
    must_refuse(ring + "--ranks 8 --save keep", {"--save keep", "--train"});
    must_refuse(ring + "--ranks 8 --train --save kept", {"--save 'kept'", "nearest is keep"});
    must_refuse(ring + "--ranks 8 --window 7", {"--window '7' is not of the form L,R"});
    must_refuse(ring + "--ranks 8 --dout x.npy", {"unknown option '--dout'"});
    must_refuse(ring + "--ranks 8 --json a.json --trace a.json", {"--json and --trace name the same file"});
    must_refuse(ring + "--ranks 8 --trace no/such/t.json", {"no/such/t.json", "no directory"});
    must_refuse(" --strategy ring --tokens 1M --heads 32 --ranks 64 --machine fuga", {"'fuga'", "nearest is fugaku"});
}
