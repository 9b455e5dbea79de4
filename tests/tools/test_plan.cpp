#include "support/catch.hpp"

#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

using namespace seqpar_test;
using nlohmann::json;

namespace {

const std::string attention = " --tokens 256K --heads 32 --kv-heads 8 --machine h100 --causal ";

/// Runs plan with --json, and gives the table of schemes.
json planned(const directory& d, const std::string& arguments) {
    const outcome r = run_program(d, "plan" + arguments + " --json plan.json");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    CHECK(r.err.empty());
    return json::parse(read_bytes(d / "plan.json"));
}

void must_refuse(const std::string& arguments, const std::vector<std::string>& parts) {
    const directory d;
    const outcome r = run_program(d, "plan" + arguments);
    INFO("plan" << arguments << "\n" << r.out << r.err);
    CHECK(r.status == 2);
    CHECK(r.out.empty());
    CHECK(r.err.substr(0, 8) == "seqpar: ");
    for (const std::string& part : parts) {
        INFO("expected: " << part);
        CHECK(contains(r.err, part));
    }
}

} // namespace

TEST_CASE("plan ranks schemes, the quickest that fits first") {
    const directory d;
    const json all = planned(d, attention + "--ranks 64 --train");
    CHECK(all["asked"]["tokens"] == 256 * 1024);
    CHECK(all["asked"]["head_dim"] == 128);
    CHECK(all["asked"]["machine"]["name"] == "h100");
    const json& schemes = all["schemes"];
    REQUIRE(schemes.size() > 40);
    std::set<std::string> families, best;
    for (std::size_t i = 0; i < schemes.size(); ++i) {
        const json& s = schemes[i];
        INFO(s.dump(1));
        families.insert(s["family"].get<std::string>());
        CHECK(s["fits"] == (s["memory_bytes"] <= all["asked"]["machine"]["memory_bytes"]));
        if (i > 0 && s["fits"] == schemes[i - 1]["fits"]) {
            const char* const key = s["fits"] ? "seconds" : "memory_bytes";
            CHECK(schemes[i - 1][key] <= s[key]);
        }
        if (i > 0) CHECK(schemes[i - 1]["fits"] >= s["fits"]);
        double seconds = 0;
        for (const char* pass : {"forward", "backward"}) {
            const json& p = s[pass];
            seconds += p["seconds"].get<double>();
            CHECK(p["seconds"] >= p["compute_seconds"]);
            CHECK(p["seconds"] >= p["seconds_without_contention"]);
            CHECK(p["bytes_sent"] > 0);
            CHECK(p["rounds"] > 0);
        }
        CHECK(s["seconds"].get<double>() == Approx(seconds));
        CHECK(!s["why"].get<std::string>().empty());
    }
    for (const json& place : all["best_of_each_family"])
        CHECK(best.insert(schemes[place.get<std::size_t>()]["family"].get<std::string>()).second);
    CHECK(best == families);
    for (const char* family : {"ring", "ulysses", "ulysses over ring", "all-gather", "tree", "grid"})
        CHECK(families.count(family) == 1);

    const json& crossovers = all["crossovers"];
    REQUIRE(!crossovers.empty());
    for (std::size_t i = 1; i < crossovers.size(); ++i) {
        CHECK(crossovers[i - 1]["tokens"] < crossovers[i]["tokens"]);
        CHECK(crossovers[i - 1]["seconds"] < crossovers[i]["seconds"]);
    }
}

TEST_CASE("plan's table has the rows that are asked for, and the command that checks the winner") {
    const directory d;
    const json all = planned(d, attention + "--ranks 64");
    const outcome r = run_program(d, "plan" + attention + "--ranks 64 --top 3");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    const std::string winner = all["schemes"][0]["strategy"];
    CHECK(contains(r.out, "batch 1, 262144 queries and keys, 32 heads of 128, 8 kv heads, bfloat16"));
    CHECK(contains(r.out, "causal(top-left), forward; 64 ranks of h100"));
    CHECK(contains(r.out, "3 of " + std::to_string(all["schemes"].size()) + " schemes"));
    CHECK(contains(r.out, "\n" + winner + " "));
    CHECK(contains(r.out, all["check"].get<std::string>()));
    CHECK(contains(all["check"].get<std::string>(), "--tokens 256K --heads 32 --kv-heads 8"));
    const std::size_t table = r.out.find("\nscheme"), end = r.out.find("\n\n", table);
    REQUIRE(end != std::string::npos);
    CHECK(std::count(r.out.data() + table, r.out.data() + end, '\n') == 1 + 1 + 3);
}

TEST_CASE("plan's numbers of tokens and ranks may be in K and M, by 1024") {
    const directory d;
    const std::string rest = " --heads 8 --machine gb200";
    const json short_form = planned(d, " --tokens 1M --ranks 1K" + rest);
    CHECK(short_form["asked"]["tokens"] == 1 << 20);
    CHECK(short_form["asked"]["kv_heads"] == 8);
    CHECK(planned(d, " --tokens 1048576 --ranks 1024" + rest) == short_form);
}

TEST_CASE("plan prices a described machine, and one rank") {
    const directory d;
    const outcome described = run_program(d, "machines cpu-cluster > mine.json");
    REQUIRE(described.status == 0);
    const json all = planned(d, " --tokens 64K --heads 8 --ranks 1 --machine mine.json --storage float");
    REQUIRE(all["schemes"].size() == 1);
    CHECK(all["schemes"][0]["strategy"] == "serial");
    CHECK(all["schemes"][0]["forward"]["bytes_sent"] == 0);
    CHECK(contains(all["check"].get<std::string>(), "--machine mine.json --storage float"));
}

TEST_CASE("plan with a window, and a score that everyone sees, differ in what is computed") {
    const directory d;
    const std::string rest = " --tokens 256K --heads 16 --ranks 32 --machine gb200";
    const auto compute = [&](const std::string& score) {
        return planned(d, rest + score)["schemes"][0]["forward"]["compute_seconds"].get<double>();
    };
    const double full = compute(""), causal = compute(" --causal"), window = compute(" --window 4095,0");
    CHECK(full > 1.8 * causal);
    CHECK(causal > 4 * window);
}

TEST_CASE("plan refuses what cannot be, with the nearest that can") {
    const std::string rest = " --heads 32 --machine h100 --ranks 64";
    must_refuse(" --tokens 0" + rest, {"--tokens 0 is out of range", "nearest is 1"});
    must_refuse(" --tokens -5" + rest, {"--tokens -5 is out of range", "nearest is 1"});
    must_refuse(" --tokens -1M" + rest, {"--tokens -1M is out of range", "nearest is 1"});
    must_refuse(" --tokens 1G" + rest, {"'1G'", "not a whole number"});
    must_refuse(" --tokens M" + rest, {"'M'", "not a whole number", "1024"});
    must_refuse(" --tokens 9000000000000M" + rest, {"out of range"});
    must_refuse(" --tokens 1024M --head-dim 1024 --batch 64" + rest, {"--tokens 1024M", "allowed are 8388608 tokens"});
    must_refuse(" --tokens 1M --kv-heads 5" + rest, {"--heads 32 is no multiple of --kv-heads 5", "--kv-heads 4"});
    must_refuse(" --tokens 1M --storage half" + rest, {"--storage 'half'", "float, double, bfloat16"});
    must_refuse(" --tokens 1M --tops 3" + rest, {"'--tops'", "nearest is --top"});
    must_refuse(" --tokens 1M --heads 32 --machine h10 --ranks 64", {"machine 'h10' is unknown", "nearest is h100"});
    must_refuse(" --tokens 1M --heads 32 --machine h100 --ranks 8K",
                {"8192 ranks", "which has 4096", "the nearest is 4096"});
    must_refuse(" --tokens 1M --heads 32 --ranks 64", {"--machine"});
    must_refuse(" --tokens 1M --json no/such/place.json" + rest, {"no/such/place.json", "no directory"});
}

TEST_CASE("plan refuses what fits into no memory, and names the number of ranks of which it does") {
    const std::string rest = " --tokens 32M --heads 32 --machine h100 --causal --train";
    must_refuse(rest + " --ranks 16",
                {"nothing fits: on 16 ranks of machine 'h100'", "a rank has 70 GiB", "on which something fits is 128"});
    const directory d;
    must_refuse(rest + " --ranks 64", {"nothing fits: on 64 ranks", "on which something fits is 128"});
    CHECK(planned(d, rest + " --ranks 128")["schemes"][0]["fits"] == true);
}
