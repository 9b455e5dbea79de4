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

void must_refuse(const directory& d, int ranks, const std::string& arguments, const std::string& part) {
    const auto before = d.names();
    const outcome r = run_program_mpi(d, ranks, arguments);
    INFO(arguments << "\n" << r.out << r.err);
    CHECK(r.status == 2);
    CHECK(times(r.err, "seqpar-mpi: ") == 1);
    CHECK(times(r.err, part) == 1);
    CHECK(r.out.empty());
    CHECK(d.names() == before);
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
    CHECK(times(table.out, "all 9 schemes verified") == 1);
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
    const std::string attend = "attend q.npy k.npy v.npy -o o.npy ";
    must_refuse(d, 2, attend + "--strategy ring --ranks 3", "--ranks 3 differs from the 2 ranks");
    must_refuse(d, 2, "attend q.npy k.npy none.npy -o o.npy --strategy ring", "none.npy: there is no such file");

    const outcome help = run_program_mpi(d, 2, "attend --help");
    CHECK(help.status == 0);
    CHECK(times(help.out, "Usage: seqpar-mpi attend") == 1);
}

/// Runs with the files of rank 1 in a directory of its own.
class two_places {
public:
    two_places() {
        inputs(1, 9, 9, 4, 2, 8, 8).write(d);
        REQUIRE(run_command(d, "mkdir here there && cp *.npy here && cp *.npy there").status == 0);
    }

    [[nodiscard]] outcome attend() const {
        set_mpi_environment();
        return run_command(
            d, "'" + mpiexec +
                   R"(' -n 3 sh -c 'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then cd there; else cd here; fi; exec )" +
                   program_mpi + " attend q.npy k.npy v.npy -o o.npy --strategy ring'");
    }
    void must_refuse(const std::string& part) const {
        const outcome r = attend();
        INFO(r.out << r.err);
        CHECK(r.status == 2);
        CHECK(times(r.err, part) == 1);
        CHECK(times(r.err, "seqpar-mpi: ") == 1);
        CHECK(run_command(d, "ls -A here").out == "k.npy\nq.npy\nv.npy\n");
    }

    directory d;
};

TEST_CASE("a file that is missing on one rank is refused on all") {
    if (program_mpi.empty()) return;
    const two_places run;
    std::filesystem::remove(run.d / "there/v.npy");
    run.must_refuse("rank 1: v.npy: there is no such file");
}

TEST_CASE("files that differ in shape or type between ranks are refused", "[slow]") {
    if (program_mpi.empty()) return;
    const two_places run;
    write_npy(run.d / "there/v.npy", random_array({1, 9, 2, 6}, 9));
    run.must_refuse("rank 1 has head_dim of V 6 and rank 0 has 8");
    for (const char* name : {"q", "k", "v"}) {
        array wide = read_npy(run.d / (std::string("here/") + name + ".npy"));
        wide.type = "<f8";
        write_npy(run.d / (std::string("there/") + name + ".npy"), wide);
    }
    run.must_refuse("different types");
}

TEST_CASE("what the library, the command line and the disk refuse is told once under mpirun", "[slow]") {
    if (program_mpi.empty()) return;
    const directory d;
    inputs(1, 9, 9, 4, 2, 8, 8).write(d);
    const std::string attend = "attend q.npy k.npy v.npy -o o.npy ";
    must_refuse(d, 2, attend, "serial attention holds the whole sequence on 1 rank");
    must_refuse(d, 3, attend + "--strategy ulysses:2/ring", "degree 2 does not fit 3 ranks");
    must_refuse(d, 2, "attend q.npy k.npy v.npy -o nowhere/o.npy --strategy ring", "nowhere/o.npy: cannot be written");
    must_refuse(d, 2, "attend q.npy k.npy", "is required");
}
