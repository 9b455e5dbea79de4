#include "support/catch.hpp"

#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace seqpar_test;

namespace {

struct event {
    std::string category, name;
    double begin = 0, end = 0; // microseconds
    nlohmann::json args;
};

/// A process of a trace: what viewers show of one rank.
struct process {
    std::string name;
    std::map<int, std::string> rows;
    std::map<int, std::vector<event>> on_row;
    std::vector<event> exchanges; // in the order of their ids, which is that of their beginning or of their end

    [[nodiscard]] std::vector<event> of(const std::string& row) const {
        for (const auto& [thread, text] : rows)
            if (text == row && on_row.count(thread) != 0) return on_row.at(thread);
        return {};
    }
    [[nodiscard]] std::vector<event> payload() const {
        std::vector<event> all;
        for (const event& e : exchanges)
            if (e.name == "exchange") all.push_back(e);
        std::sort(all.begin(), all.end(), [](const event& a, const event& b) { return a.begin < b.begin; });
        return all;
    }
};

/// Reads a trace as a viewer does, and checks what the format demands.
std::vector<process> processes_of(const nlohmann::json& trace) {
    std::map<int, process> all;
    std::map<std::string, std::pair<int, event>> open;
    std::set<std::string> ids;
    for (const auto& e : trace["traceEvents"]) {
        process& p = all[e["pid"]];
        const std::string phase = e["ph"], name = e["name"];
        if (phase == "M") {
            if (name == "process_name") p.name = e["args"]["name"];
            if (name == "thread_name") p.rows[e["tid"]] = e["args"]["name"];
            continue;
        }
        const double at = e["ts"];
        CHECK(at >= 0);
        event one{e["cat"], name, at, at, e.value("args", nlohmann::json::object())};
        if (phase == "X") {
            CHECK(e["dur"] >= 0);
            one.end += e["dur"].get<double>();
            p.on_row[e["tid"]].push_back(one);
        } else if (phase == "b") {
            CHECK(ids.insert(e["id2"]["local"]).second);
            open[e["id2"]["local"]] = {e["pid"], one};
        } else {
            REQUIRE(phase == "e");
            REQUIRE(open.count(e["id2"]["local"]) == 1);
            auto [pid, begun] = open[e["id2"]["local"]];
            open.erase(e["id2"]["local"].get<std::string>());
            CHECK(pid == e["pid"]);
            CHECK((begun.name == name && begun.category == one.category && begun.begin <= at));
            begun.end = at;
            p.exchanges.push_back(begun);
        }
    }
    CHECK(open.empty());
    std::vector<process> in_order;
    for (auto& [pid, p] : all) in_order.push_back(std::move(p));
    return in_order;
}

bool overlap(const event& a, const event& b) { return std::max(a.begin, b.begin) < std::min(a.end, b.end); }

/// A forward ring over `ranks` ranks of `rows` rows each, 4 heads, 2 kv heads of 16.
void check_ring(const nlohmann::json& trace, std::size_t ranks, std::size_t rows) {
    const std::vector<process> all = processes_of(trace);
    REQUIRE(all.size() == ranks);
    for (std::size_t r = 0; r < ranks; ++r) {
        const process& p = all[r];
        INFO("rank " << r << " of " << ranks);
        CHECK(p.name == "rank " + std::to_string(r));
        const std::vector<event> kernels = p.of("kernel"), exchanges = p.payload(), passes = p.of("attention");
        REQUIRE(kernels.size() == ranks);
        REQUIRE(exchanges.size() == ranks - 1);
        REQUIRE(passes.size() == 1);
        CHECK(passes[0].name == "forward");
        for (std::size_t i = 0; i < kernels.size(); ++i) {
            CHECK(kernels[i].name == "forward");
            CHECK(kernels[i].args["rows"] == rows);
            CHECK(kernels[i].args["keys"] == rows);
            CHECK(kernels[i].args["heads"] == 4);
            CHECK((kernels[i].begin >= passes[0].begin && kernels[i].end <= passes[0].end));
            if (i > 0) CHECK(kernels[i - 1].end <= kernels[i].begin);
        }
        for (std::size_t i = 0; i < exchanges.size(); ++i) {
            CHECK(overlap(exchanges[i], kernels[i]));
            CHECK(exchanges[i].args["sent bytes"] == rows * 2 * 16 * 2 * 4);
            CHECK(exchanges[i].args["received bytes"] == rows * 2 * 16 * 2 * 4);
            CHECK(exchanges[i].args["to rank"] == (r + 1) % ranks);
            CHECK(exchanges[i].args["from rank"] == (r + ranks - 1) % ranks);
            // Nothing arrives before it was sent: the clocks agree.
            CHECK(exchanges[i].end >= all[(r + ranks - 1) % ranks].payload()[i].begin);
        }
        const auto& shares = trace["otherData"]["ranks"][r];
        CHECK(shares["strategy"] == "ring");
        CHECK(shares["kernel_seconds"] > 0);
        CHECK(shares["kernel_seconds"].get<double>() + shares["wait_seconds"].get<double>() <= shares["seconds"]);
        CHECK(shares["overlapped_seconds"] <= shares["exchange_seconds"]);
        CHECK((shares["overlapped_seconds"] > 0) == (ranks > 1));
    }
    CHECK(trace["otherData"]["clock_doubt_us"] == 0); // all on one machine
}

} // namespace

TEST_CASE("a trace of a ring shows each rank's kernels and the exchanges that they hide") {
    const directory d;
    for (const std::size_t ranks : {1U, 2U, 3U, 4U}) {
        inputs(1, 60 * ranks, 60 * ranks, 4, 2, 16, 16).write(d);
        const std::string run = "attend q.npy k.npy v.npy -o o.npy --strategy ring --ranks " + std::to_string(ranks);
        const outcome r = run_program(d, run + " --trace t.json");
        INFO(r.out << r.err);
        REQUIRE(r.status == 0);
        check_ring(nlohmann::json::parse(read_bytes(d / "t.json")), ranks, 60);
        CHECK(contains(r.out, "t.json: what each rank did when"));
        CHECK(contains(r.out, "rank " + std::to_string(ranks - 1) + " "));
        CHECK(!contains(r.out, "rank " + std::to_string(ranks) + " "));
        const std::string traced = read_bytes(d / "o.npy");
        const outcome plain = run_program(d, run);
        REQUIRE(plain.status == 0);
        CHECK(!contains(plain.out, "overlap"));
        CHECK(read_bytes(d / "o.npy") == traced);
    }
}

TEST_CASE("under mpirun rank 0 writes the trace of all ranks, by one clock") {
    if (program_mpi.empty()) return;
    const directory d;
    inputs(1, 180, 180, 4, 2, 16, 16).write(d);
    const outcome r = run_program_mpi(d, 3, "attend q.npy k.npy v.npy -o o.npy --strategy ring --trace t.json");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    check_ring(nlohmann::json::parse(read_bytes(d / "t.json")), 3, 60);
    CHECK(contains(r.out, "rank 2 "));

    REQUIRE(run_program_mpi(d, 2, "attend q.npy k.npy v.npy -o o.npy --strategy ulysses --trace t.json").status == 0);
    for (const process& p : processes_of(nlohmann::json::parse(read_bytes(d / "t.json")))) {
        std::size_t collectives = 0; // MPI's own all-to-all: q, k and v in one, and the output
        for (const event& e : p.of("wait")) collectives += e.category == "collective" && e.name == "all_to_all" ? 1 : 0;
        CHECK(collectives == 2);
        CHECK(p.payload().empty());
    }
}

TEST_CASE("verify traces both passes, and nothing of the verification") {
    const directory d;
    const inputs in(1, 40, 40, 4, 4, 8, 8);
    in.write(d);
    write_npy(d / "dout.npy", random_array(in.q.shape, 7));
    const outcome r = run_program(
        d, "verify q.npy k.npy v.npy --dout dout.npy --strategy ulysses:2/all-gather --ranks 4 --trace t.json");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    const std::vector<process> all = processes_of(nlohmann::json::parse(read_bytes(d / "t.json")));
    REQUIRE(all.size() == 4);
    for (const process& p : all) {
        const std::vector<event> passes = p.of("attention"), kernels = p.of("kernel");
        REQUIRE(passes.size() == 2);
        CHECK((passes[0].name == "forward" && passes[1].name == "backward" && passes[0].end <= passes[1].begin));
        CHECK(std::count_if(kernels.begin(), kernels.end(), [](const event& e) { return e.name == "backward"; }) == 1);
        for (const event& e : p.exchanges) // what the verification sends is no part of it
            CHECK((overlap(e, passes[0]) || overlap(e, passes[1])));
    }
}

TEST_CASE("compare traces each strategy from 0 on, as ranks of its own") {
    const directory d;
    inputs(1, 24, 24, 4, 4, 8, 8).write(d);
    const outcome r =
        run_program(d, "compare q.npy k.npy v.npy --strategy ring,ulysses --ranks 2 --json j.json --trace t.json");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    const std::vector<process> all = processes_of(nlohmann::json::parse(read_bytes(d / "t.json")));
    const std::vector<std::string> names{"serial: rank 0", "ring: rank 0", "ring: rank 1", "ulysses: rank 0",
                                         "ulysses: rank 1"};
    REQUIRE(all.size() == names.size());
    std::map<std::string, double> first;
    for (std::size_t i = 0; i < all.size(); ++i) {
        CHECK(all[i].name == names[i]);
        const std::string strategy = names[i].substr(0, names[i].find(':'));
        const double begin = all[i].of("attention").front().begin;
        first[strategy] = first.count(strategy) == 0 ? begin : std::min(first[strategy], begin);
        CHECK(!all[i].of("kernel").empty());
    }
    for (const auto& [strategy, begin] : first) CHECK(begin == 0);
    for (const char* strategy : {"\nserial ", "\nring ", "\nulysses "}) CHECK(contains(r.out, strategy));
}

TEST_CASE("of many ranks those that wait longest are told, and all are in the file") {
    const directory d;
    inputs(1, 40, 40, 2, 2, 4, 4).write(d);
    const outcome r = run_program(d, "attend q.npy k.npy v.npy -o o.npy --strategy tree --ranks 20 --trace t.json");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    CHECK(contains(r.out, "16 of 20"));
    CHECK(std::count(r.out.begin(), r.out.end(), '\n') == 2 + 1 + 2 + 16);
    CHECK(processes_of(nlohmann::json::parse(read_bytes(d / "t.json"))).size() == 20);
}

TEST_CASE("a trace that cannot be written is refused before anything is computed") {
    const directory d;
    inputs(1, 10, 10, 2, 2, 4, 4).write(d);
    const auto before = d.names();
    const std::string attend = "attend q.npy k.npy v.npy -o o.npy ";
    for (const auto& [arguments, text] : std::vector<std::pair<std::string, std::string>>{
             {attend + "--trace /nowhere/t.json", "/nowhere/t.json: cannot be written: there is no directory /nowhere"},
             {attend + "--trace .", "cannot be written: this is a directory"},
             {attend + "--trace ''", "the name of an output file is empty"},
             {attend + "--trace ./o.npy", "./o.npy: --trace names the file of another output: give two"},
             {attend + "--lse l.npy --trace l.npy", "--trace names the file of another output"},
             {attend + "--dout q.npy --grads . --trace dq.npy", "an output and a gradient have the same name"},
             {"compare q.npy k.npy v.npy --trace /nowhere/t.json", "there is no directory /nowhere"},
             {"compare q.npy k.npy v.npy --json t.json --trace t.json", "--json and --trace name the same file"},
             {"embed q.npy -o . --heads 1 --head-dim 4 --trace t.json", "unknown option '--trace'"}}) {
        const outcome r = run_program(d, arguments);
        INFO(arguments << "\n" << r.out << r.err);
        CHECK(r.status == 2);
        CHECK(contains(r.err, text));
        CHECK(r.out.empty());
        CHECK(d.names() == before);
    }
}
