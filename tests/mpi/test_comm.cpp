#include "support/catch.hpp"
#include "support/comm_contract.hpp"

#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/mpi.hpp>

#include <algorithm>
#include <exception>
#include <optional>

using contract::contains;
using seqpar::mpi_communicator;

namespace {

const boost::mpi::communicator world;

/// Whether a call throws on any rank: all ranks come to the same verdict, so that none leaves the others waiting.
template <class F>
void on_all_ranks(const F& f) {
    std::string text = "another rank failed";
    int failed = 0, any = 0;
    try {
        f();
    } catch (const std::exception& e) {
        text = e.what();
        failed = 1;
    }
    MPI_Allreduce(&failed, &any, 1, MPI_INT, MPI_MAX, world);
    INFO(text);
    REQUIRE(any == 0);
}

} // namespace

TEST_CASE("mpi_communicator fulfils the contract") {
    const std::size_t limit = GENERATE(std::size_t{mpi_communicator::largest_chunk}, std::size_t{1000});
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " with chunks of at most " << limit);
        on_all_ranks([&] { check(mpi_communicator(world, limit)); });
        on_all_ranks([&] { check(seqpar::metered(mpi_communicator(world, limit))); });
    });
}

TEST_CASE("a part longer than a chunk is one message of an all-to-all and of a meter") {
    seqpar::metered c(mpi_communicator(world, 1000));
    const int me = c.rank(), size = c.size();
    const auto bytes = [](int from, int to) { return static_cast<std::size_t>(2500 + 1000 * from + to); };
    std::vector<contract::bytes> sent, got;
    std::vector<seqpar::outgoing> out;
    std::vector<seqpar::incoming> in;
    seqpar::traffic right{1, size - 1, 0, 0};
    for (int r = 0; r < size; ++r) {
        sent.push_back(contract::letter(me, r, 0, bytes(me, r)));
        got.push_back(contract::blank(bytes(r, me)));
        if (r != me) {
            right.bytes += static_cast<std::int64_t>(bytes(me, r));
        }
    }
    for (std::size_t r = 0; r < sent.size(); ++r) {
        out.push_back(contract::out_of(sent[r]));
        in.push_back(contract::in_to(got[r]));
    }
    seqpar::collective::all_to_all(c, out, in);
    on_all_ranks([&] {
        contract::findings found = contract::findings_of(c, "chunks");
        for (int r = 0; r < size; ++r) {
            found.expect(got[static_cast<std::size_t>(r)] == contract::letter(r, me, 0, bytes(r, me)), "part of rank ",
                         r);
        }
        found.expect(c.counts().of("all_to_all") == right, "bytes ", c.counts().of("all_to_all").bytes, ", not ",
                     right.bytes);
        found.close();
    });
}

TEST_CASE("a message of another size is an error where it arrives") {
    mpi_communicator c(world);
    if (c.size() < 2) {
        return;
    }
    const auto expected = GENERATE(std::size_t{16}, std::size_t{40});
    std::string text = "sizes";
    contract::bytes b(64);
    if (c.rank() == 0) {
        c.exchange({b.data(), 24}, 1, {}, 1).wait();
    }
    if (c.rank() == 1) {
        auto request = c.exchange({}, 0, {b.data(), expected}, 0);
        text = contract::text_thrown_by<seqpar::communication_error>([&] { request.wait(); });
        request.wait(); // again: no effect
    }
    INFO(text);
    on_all_ranks([&] {
        if (c.rank() == 1 && !(contains(text, "from rank 0") && contains(text, std::to_string(expected).c_str()))) {
            throw std::runtime_error(text.empty() ? "no error" : text);
        }
    });
    seqpar::collective::barrier(c);
}

TEST_CASE("mpi_communicator refuses what MPI cannot do") {
    mpi_communicator c(world);
    std::byte b{};
    const auto thrown_by = [](const auto& f) { return contract::text_thrown_by<seqpar::error>(f); };
    CHECK(contains(thrown_by([&] { c.exchange({nullptr, 24}, 0, {}, 0); }), "a ghost of 24 bytes"));
    CHECK(contains(thrown_by([&] { c.exchange({}, 0, {nullptr, 24}, 0); }), "a ghost of 24 bytes"));
    CHECK(contains(thrown_by([&] { c.exchange({&b, 1}, c.size(), {}, 0); }), "allowed: 0 to"));
    CHECK(contains(thrown_by([&] { c.split(-3, 0); }), "color -3"));
    CHECK(contains(thrown_by([&] { mpi_communicator(world, 0); }), "nearest: 1"));
    CHECK(contains(thrown_by([&] { mpi_communicator(world, mpi_communicator::largest_chunk + 1); }), "2147483647"));
}

TEST_CASE("mpi_communicator talks on a duplicate") {
    mpi_communicator c(world);
    int result = MPI_UNEQUAL;
    MPI_Comm_compare(c.native(), world, &result);
    REQUIRE(result == MPI_CONGRUENT);
}

TEST_CASE("what MPI reports is an exception with MPI's text") {
    const std::string text = contract::text_thrown_by<seqpar::communication_error>(
        [] { seqpar::detail::mpi::check("MPI_Isend", MPI_ERR_RANK); });
    REQUIRE(contains(text, "MPI_Isend: "));
    REQUIRE(contains(text, "MPI_ERR_RANK"));
}

namespace {

// Outlives MPI_Finalize: its end must not call MPI.
std::optional<mpi_communicator> late;

} // namespace

TEST_CASE("a communicator may outlive MPI") {
    late.emplace(world);
    late->barrier();
}

TEST_CASE("all ranks get the same number of threads, and no core two") {
    const int mine = threads_per_rank(mpi_communicator(world));
    int least = 0, most = 0;
    MPI_Allreduce(&mine, &least, 1, MPI_INT, MPI_MIN, world);
    MPI_Allreduce(&mine, &most, 1, MPI_INT, MPI_MAX, world);
    CHECK(least == most);
    // These ranks are on one machine, and bound to none of its cores.
    CHECK(mine == std::max(1, seqpar::cores_here() / world.size()));
}
