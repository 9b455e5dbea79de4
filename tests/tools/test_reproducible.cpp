/// @file
/// --reproducible: files of the same bytes, whatever the strategy, the layout, the ranks and their kind.
#include "support/catch.hpp"

#include "run_program.hpp"

#include <string>
#include <vector>

using namespace seqpar_test;

TEST_CASE("--reproducible writes the same bytes for every scheme") {
    const directory d;
    inputs(1, 37, 41, 4, 2, 8, 6).write(d);
    write_npy(d / "dout.npy", random_array({1, 37, 4, 6}, 4));
    const std::vector<std::string> files{"/out.npy", "/lse.npy", "/dq.npy", "/dk.npy", "/dv.npy"};
    const auto arguments = [](const std::string& to, const std::string& how) {
        return "attend q.npy k.npy v.npy -o " + to + "/out.npy --lse " + to + "/lse.npy --dout dout.npy --grads " + to +
               " --causal --reproducible " + how;
    };
    REQUIRE(run_command(d, "mkdir one other mpi").status == 0);
    REQUIRE(run_program(d, arguments("one", "")).status == 0);
    const auto differing = [&](const std::string& from) {
        std::string all;
        for (const std::string& file : files)
            if (read_bytes(d / (from + file)) != read_bytes(d / ("one" + file))) all += from + file + ' ';
        return all;
    };
    for (const std::string how :
         {"--strategy ring --ranks 3", "--strategy ulysses --ranks 5 --layout zigzag --threads-per-rank 2",
          "--strategy all-gather:stream=1 --ranks 4 --layout striped", "--strategy tree --ranks 2",
          "--strategy ulysses:2/ring --ranks 4 --save keep"}) {
        const outcome r = run_program(d, arguments("other", how));
        INFO(how << '\n' << r.out << r.err);
        REQUIRE(r.status == 0);
        CHECK(r.out.find("reproducible") != std::string::npos);
        CHECK(differing("other") == "");
    }
    if (program_mpi.empty()) return;
    REQUIRE(run_program_mpi(d, 3, arguments("mpi", "--strategy ring --layout zigzag")).status == 0);
    CHECK(differing("mpi") == "");
}

TEST_CASE("--reproducible is verified, and brings its own kernel") {
    const directory d;
    inputs(1, 37, 37, 4, 4, 8, 8).write(d);
    const outcome verified = run_program(d, "verify q.npy k.npy v.npy --reproducible --strategy ring --ranks 3");
    INFO(verified.out << verified.err);
    CHECK(verified.status == 0);
    const outcome compared = run_program(d, "compare q.npy k.npy v.npy --reproducible --ranks 3 --storage bfloat16");
    INFO(compared.out << compared.err);
    CHECK(compared.status == 0);
    CHECK(compared.out.find("kernel reproducible") != std::string::npos);
    const outcome two = run_program(d, "verify q.npy k.npy v.npy --reproducible --kernel flash");
    CHECK(two.status == 2);
    CHECK(two.err.find("--reproducible") != std::string::npos);
    CHECK(two.err.find("--kernel") != std::string::npos);
}
