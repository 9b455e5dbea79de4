#include "support/catch.hpp"

#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

using namespace seqpar_test;
using nlohmann::json;

namespace {

constexpr std::size_t n = 33, heads = 4, kv_heads = 2, dim = 16;

/// What the worker answers to each of the requests.
std::vector<json> answers(const directory& d, const std::string& command, const std::vector<json>& requests) {
    std::string lines;
    for (const json& request : requests) lines += request.dump() + "\n";
    write_bytes(d / "lines", lines);
    const outcome r = run_command(d, command + " < lines");
    INFO(r.err);
    REQUIRE(r.status == 0);
    std::vector<json> all;
    std::istringstream text(r.out);
    for (std::string line; std::getline(text, line);) all.push_back(json::parse(line));
    REQUIRE(all.size() == requests.size());
    return all;
}

std::string worker() { return "'" + bench_worker + "'"; }

void write_inputs(const directory& d) {
    inputs(1, n, n, heads, kv_heads, dim, dim).write(d);
    write_npy(d / "dout.npy", random_array({1, n, heads, dim}, 4));
}

json prepare(const directory& d, const std::string& work, const std::string& score) {
    return {{"do", "prepare"}, {"work", work},         {"score", score}, {"tokens", n},
            {"heads", heads},  {"kv_heads", kv_heads}, {"dim", dim},     {"inputs", d.path()}};
}
json with(json request, const json& more) {
    request.update(more);
    return request;
}

void check_near(const directory& d, const std::string& have, const std::string& want, double tolerance) {
    const array a = read_npy(d / have), b = read_npy(d / want);
    REQUIRE(a.shape == b.shape);
    double worst = 0, largest = 0;
    for (std::size_t i = 0; i < a.values.size(); ++i) {
        worst = std::max(worst, std::abs(a.values[i] - b.values[i]));
        largest = std::max(largest, std::abs(b.values[i]));
    }
    INFO(have << " against " << want);
    CHECK(worst <= tolerance * largest);
    CHECK(largest > 0.1); // zeros would agree with zeros
}

/// Scores that are seen, one by one.
double pairs(const std::function<bool(std::size_t, std::size_t)>& sees) {
    double count = 0;
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) count += sees(i, j) ? 1 : 0;
    return count;
}

struct scored {
    std::string score, option; // of the worker, of seqpar attend
    double pairs;
};
std::vector<scored> all_scores(const directory& d) {
    array boundaries{{4}, {0, 11, 22, 33}, "<i4"};
    write_npy(d / "cu.npy", boundaries);
    const auto causal = [](std::size_t i, std::size_t j) { return j <= i; };
    return {
        {"full", "", pairs([](std::size_t, std::size_t) { return true; })},
        {"causal", "--causal", pairs(causal)},
        {"window:5", "--window 5,0", pairs([&](std::size_t i, std::size_t j) { return causal(i, j) && i - j <= 5; })},
        {"documents:3", "--causal --documents cu.npy",
         pairs([&](std::size_t i, std::size_t j) { return causal(i, j) && i / 11 == j / 11; })}};
}

} // namespace

TEST_CASE("the worker of the benchmarks computes what it is asked to, and counts useful flops") {
    if (bench_worker.empty()) return;
    const directory d;
    write_inputs(d);
    for (const scored& s : all_scores(d)) {
        INFO(s.score);
        REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o want.npy --dout dout.npy --grads . --kernel reference " +
                                   s.option)
                    .status == 0);
        for (const char* name : {"dq.npy", "dk.npy", "dv.npy"})
            std::filesystem::rename(d / name, d / (std::string("want_") + name));
        const json write{{"do", "write"}, {"to", d.path()}};
        for (const json& how : {json{{"work", "forward"}}, json{{"work", "forward"}, {"threads", 3}},
                                json{{"work", "forward"}, {"type", "double"}}, json{{"work", "strategy"}},
                                json{{"work", "strategy"}, {"strategy", "ring"}, {"ranks", 3}, {"layout", "zigzag"}}}) {
            INFO(how.dump());
            const auto said =
                answers(d, worker(),
                        {with(prepare(d, "", s.score), how), {{"do", "run"}}, {{"do", "run"}, {"times", 3}}, write});
            CHECK(said[0]["flops"] == 4 * s.pairs * heads * dim);
            CHECK(said[0]["bytes"] == 0);
            CHECK(said[1]["seconds"] > 0);
            CHECK(said[2]["seconds"] > 0);
            check_near(d, "out.npy", "want.npy", 1e-5);
        }
        for (const json& how : {json{{"work", "backward"}, {"threads", 2}},
                                json{{"work", "strategy_backward"}, {"strategy", "ulysses"}, {"ranks", 2}}}) {
            INFO(how.dump());
            const auto said =
                answers(d, worker(),
                        {with(prepare(d, "", s.score), how), {{"do", "run"}}, {{"do", "run"}, {"times", 2}}, write});
            CHECK(said[0]["flops"] == 10 * s.pairs * heads * dim);
            for (const char* name : {"dq.npy", "dk.npy", "dv.npy"})
                check_near(d, name, std::string("want_") + name, 1e-5);
        }
    }
}

TEST_CASE("the worker of the benchmarks counts the bytes that decoding reads, and rounds to bfloat16") {
    if (bench_worker.empty()) return;
    const directory d;
    inputs(1, 1, n, heads, kv_heads, dim, dim).write(d);
    REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o want.npy --kernel reference").status == 0);
    const json one = with(prepare(d, "decode", "full"), {{"tokens", 1}, {"keys", n}});
    const auto said = answers(
        d, worker(), {one, {{"do", "run"}}, {{"do", "write"}, {"to", d.path()}}, with(one, {{"type", "bfloat16"}})});
    CHECK(said[0]["bytes"] == 2 * n * kv_heads * dim * 4);
    CHECK(said[0]["flops"] == 0);
    CHECK(said[3]["bytes"] == 2 * n * kv_heads * dim * 2);
    check_near(d, "out.npy", "want.npy", 1e-5);
}

TEST_CASE("the worker of the benchmarks says what is wrong and goes on") {
    if (bench_worker.empty()) return;
    const directory d;
    write_inputs(d);
    const json good = prepare(d, "forward", "full");
    const auto said = answers(d, worker(),
                              {{{"do", "run"}},
                               with(good, {{"score", "diagonal"}}),
                               with(good, {{"tokens", n + 1}}),
                               with(good, {{"inputs", "nowhere"}}),
                               with(good, {{"work", "strategy"}, {"ranks", 2}}), // of serial
                               {{"do", "jump"}},
                               good,
                               {{"do", "run"}},
                               {{"do", "forget"}},
                               {{"do", "run"}}});
    for (const std::size_t wrong : {0U, 1U, 2U, 3U, 4U, 5U, 9U}) CHECK(said[wrong].contains("error"));
    CHECK(contains(said[1]["error"], "allowed are full, causal, window:L, documents:n"));
    CHECK(contains(said[2]["error"], "q.npy"));
    CHECK(said[7]["seconds"] > 0);
}

TEST_CASE("the worker of the benchmarks knows the machine and its peak") {
    if (bench_worker.empty()) return;
    const directory d;
    const auto said = answers(d, worker(),
                              {{{"do", "describe"}},
                               {{"do", "peak"}, {"type", "float"}},
                               {{"do", "peak"}, {"type", "double"}},
                               {{"do", "products"}, {"threads", 2}}});
    CHECK(said[0]["cores"] >= 1);
    CHECK_FALSE(said[0]["processor"].get<std::string>().empty());
    // A vector has half as many doubles: twice, give or take what else runs.
    const double ratio = said[1]["flops"].get<double>() / said[2]["flops"].get<double>();
    CHECK(ratio > 1.3);
    CHECK(ratio < 3.0);
    // What reads memory is no quicker than what reads none.
    const double share = said[3]["share"].get<double>();
    CHECK(share > 0.1);
    CHECK(share < 1.5);
}

TEST_CASE("the worker of the benchmarks runs on MPI, too") {
    if (bench_worker_mpi.empty()) return;
    const directory d;
    write_inputs(d);
    REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o want.npy --causal --kernel reference").status == 0);
    set_mpi_environment();
    const auto said = answers(d, "'" + mpiexec + "' -n 2 '" + bench_worker_mpi + "'",
                              {with(prepare(d, "strategy", "causal"), {{"strategy", "ring"}, {"layout", "zigzag"}}),
                               {{"do", "run"}},
                               {{"do", "write"}, {"to", d.path()}},
                               prepare(d, "forward", "causal")});
    CHECK(said[0]["flops"] == 4 * dim * heads * n * (n + 1) / 2);
    CHECK(said[1]["seconds"] > 0);
    CHECK(said[3].contains("error"));
    check_near(d, "out.npy", "want.npy", 1e-5);
}
