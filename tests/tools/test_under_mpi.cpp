#include "support/catch.hpp"

#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <string>

using namespace seqpar_test;

namespace {

std::size_t times(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
    return count;
}

} // namespace

TEST_CASE("under mpirun the results are the same bits as on threads") {
    if (program_mpi.empty()) return;
    const directory d;
    inputs(1, 37, 37, 6, 2, 8, 6).write(d);
    for (const std::string options : {"--strategy ulysses:2/ring --causal --layout zigzag",
                                      "--strategy all-gather:stream=1 --window 9,4 --layout striped"}) {
        const outcome mpi = run_program_mpi(d, 4, "attend q.npy k.npy v.npy -o mpi.npy --lse mpi_lse.npy " + options);
        INFO(options << "\n" << mpi.out << mpi.err);
        REQUIRE(mpi.status == 0);
        CHECK(times(mpi.out, "37 queries") == 1);
        REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o threads.npy --lse threads_lse.npy --ranks 4 " + options)
                    .status == 0);
        CHECK(read_bytes(d / "mpi.npy") == read_bytes(d / "threads.npy"));
        CHECK(read_bytes(d / "mpi_lse.npy") == read_bytes(d / "threads_lse.npy"));
    }
}

TEST_CASE("under mpirun compare and verify do what they do on threads") {
    if (program_mpi.empty()) return;
    const directory d;
    inputs(1, 37, 37, 6, 2, 8, 6).write(d);
    const outcome table =
        run_program_mpi(d, 4, "compare q.npy k.npy v.npy --causal --ranks 4 --layout zigzag --json t.json");
    INFO(table.out << table.err);
    REQUIRE(table.status == 0);
    CHECK(times(table.out, "all 7 schemes verified") == 1);
    const auto parsed = nlohmann::json::parse(read_bytes(d / "t.json"));
    CHECK(parsed["scheme"]["communicator"] == "MPI");
    for (const auto& row : parsed["rows"]) {
        CHECK(row["bytes_sent"]["equal_on_every_rank"] == true);
        CHECK(row["messages_sent"]["equal_on_every_rank"] == true);
    }
    const outcome verified = run_program_mpi(d, 3, "verify q.npy k.npy v.npy --strategy ring");
    CHECK(verified.status == 0);
    CHECK(times(verified.out, "verified") == 1);
}

TEST_CASE("under mpirun a refusal is told once, by all ranks at once") {
    if (program_mpi.empty()) return;
    const directory d;
    inputs(1, 9, 9, 4, 2, 8, 8).write(d);
    const auto before = d.names();
    const auto must_refuse = [&](int ranks, const std::string& arguments, const std::string& part) {
        const outcome r = run_program_mpi(d, ranks, arguments);
        INFO(arguments << "\n" << r.out << r.err);
        CHECK(r.status == 2);
        CHECK(times(r.err, "seqpar-mpi: ") == 1);
        CHECK(times(r.err, part) == 1);
        CHECK(r.out.empty());
        CHECK(d.names() == before);
    };
    const std::string attend = "attend q.npy k.npy v.npy -o o.npy ";
    must_refuse(2, attend + "--strategy ring --ranks 3", "--ranks 3 differs from the 2 ranks");
    must_refuse(2, "attend q.npy k.npy none.npy -o o.npy --strategy ring", "none.npy: there is no such file");
    must_refuse(3, attend + "--strategy ulysses:2/ring", "degree 2 does not fit 3 ranks");

    const outcome help = run_program_mpi(d, 2, "attend --help");
    CHECK(help.status == 0);
    CHECK(times(help.out, "Usage: seqpar-mpi attend") == 1);
}

TEST_CASE("what is wrong on one rank alone is refused on all") {
    if (program_mpi.empty()) return;
    const directory d;
    inputs(1, 9, 9, 4, 2, 8, 8).write(d);
    const outcome setup = run_command(d, "mkdir here there && cp q.npy k.npy v.npy here && cp q.npy k.npy there");
    REQUIRE(setup.status == 0);
    const std::string where = R"(if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then cd there; else cd here; fi; exec )";
    const auto in_two_places = [&] {
        return run_command(d, "'" + mpiexec + "' -n 3 sh -c '" + where + program_mpi +
                                  " attend q.npy k.npy v.npy -o o.npy --strategy ring'");
    };
    const outcome missing = in_two_places();
    INFO(missing.out << missing.err);
    CHECK(missing.status == 2);
    CHECK(times(missing.err, "rank 1: v.npy: there is no such file") == 1);
    // another array of the same shape is not to be known; one of another shape, or type, is
    write_npy(d / "there/v.npy", random_array({1, 9, 2, 6}, 9));
    const outcome shape = in_two_places();
    INFO(shape.out << shape.err);
    CHECK(shape.status == 2);
    CHECK(times(shape.err, "rank 1 has head_dim of V 6 and rank 0 has 8") == 1);
    for (const char* name : {"q", "k", "v"}) {
        array wide = read_npy(d / (std::string("here/") + name + ".npy"));
        wide.type = "<f8";
        write_npy(d / (std::string("there/") + name + ".npy"), wide);
    }
    const outcome type = in_two_places();
    INFO(type.out << type.err);
    CHECK(type.status == 2);
    CHECK(contains(type.err, "different types"));
    CHECK(run_command(d, "ls -A here").out == "k.npy\nq.npy\nv.npy\n");
}
