#include "support/catch.hpp"
#include "support/comm_contract.hpp"

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/threads.hpp>

#include <bit>

using seqpar::metered;
using seqpar::thread_communicator;
using seqpar::traffic;

namespace {

/// Threads with a native all-to-all and barrier, as MPI has them.
struct native_threads : thread_communicator {
    explicit native_threads(thread_communicator c) : thread_communicator(std::move(c)) {}
    native_threads split(int color, int key) { return native_threads(thread_communicator::split(color, key)); }
    void barrier() { seqpar::collective::barrier(static_cast<thread_communicator&>(*this)); }
    void all_to_all(std::span<const seqpar::outgoing> out, std::span<const seqpar::incoming> in) {
        seqpar::collective::all_to_all(static_cast<thread_communicator&>(*this), out, in);
    }
};

static_assert(seqpar::native_barrier<metered<native_threads>>);
static_assert(seqpar::native_all_to_all<metered<native_threads>>);
static_assert(!seqpar::native_barrier<metered<thread_communicator>>);
static_assert(!seqpar::native_all_to_all<metered<thread_communicator>>);

std::int64_t log2_up(int size) { return std::bit_width(static_cast<unsigned>(size - 1)); }

std::string show(const traffic& t) {
    return "calls " + std::to_string(t.calls) + ", messages " + std::to_string(t.messages) + ", bytes " +
           std::to_string(t.bytes) + ", rounds " + std::to_string(t.rounds);
}

void expect(contract::findings& found, const char* what, const traffic& counted, const traffic& right) {
    found.expect(counted == right, what, ": counted ", show(counted), "; right: ", show(right));
}

/// Rank r has 10 * r + to bytes for rank `to`, rank 0 none for itself.
std::size_t part(int from, int to) { return static_cast<std::size_t>(10 * from + to); }

template <class C>
void count_all_to_all(C& c, contract::findings& found, bool native) {
    const int me = c.rank(), size = c.size();
    std::vector<contract::bytes> sent, got;
    std::vector<seqpar::outgoing> out;
    std::vector<seqpar::incoming> in;
    traffic right{1, 0, 0, native ? 0 : size - 1};
    for (int r = 0; r < size; ++r) {
        sent.push_back(contract::letter(me, r, 0, part(me, r)));
        got.push_back(contract::blank(part(r, me)));
        if (r == me) {
            continue;
        }
        right.messages += part(me, r) != 0 ? 1 : 0;
        right.bytes += static_cast<std::int64_t>(part(me, r));
    }
    for (std::size_t r = 0; r < sent.size(); ++r) {
        out.push_back(contract::out_of(sent[r]));
        in.push_back(contract::in_to(got[r]));
    }
    c.counts().reset();
    seqpar::collective::all_to_all(c, out, in);
    expect(found, "all_to_all", c.counts().of("all_to_all"), right);
    expect(found, "payload", c.counts().payload(), right);
    found.expect(c.counts().by_name().size() == 1, "other names than all_to_all");
}

template <class C>
void count_all_gather(C& c, contract::findings& found, bool native) {
    const int me = c.rank(), size = c.size();
    const contract::bytes mine = contract::letter(me, 0, 0, static_cast<std::size_t>(5 * me));
    std::vector<contract::bytes> got;
    std::vector<seqpar::incoming> in;
    for (int r = 0; r < size; ++r) {
        got.push_back(contract::blank(static_cast<std::size_t>(5 * r)));
    }
    for (contract::bytes& each : got) {
        in.push_back(contract::in_to(each));
    }
    c.counts().reset();
    seqpar::collective::all_gather(c, contract::out_of(mine), in);
    // A round in which rank 0, which has nothing, would receive from nobody, or rank 1 from rank 0, is none for it.
    std::int64_t rounds = 0;
    for (int i = 1; i < size; ++i) {
        rounds += me != 0 || (me - i + size) % size != 0 ? 1 : 0;
    }
    expect(found, "all_gather", c.counts().of("all_gather"),
           {1, me == 0 ? 0 : size - 1, std::int64_t{5} * me * (size - 1), native ? 0 : rounds});
    found.expect(c.counts().by_name().size() == 1, "other names than all_gather");
}

} // namespace

TEST_CASE("metered fulfils the contract") {
    const int ranks = GENERATE(1, 2, 3, 4, 7);
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " on " << ranks);
        REQUIRE_NOTHROW(seqpar::threads::run(ranks, [&](thread_communicator c) { check(metered(c)); }));
        REQUIRE_NOTHROW(seqpar::threads::run(ranks, [&](thread_communicator c) { check(metered(native_threads(c))); }));
    });
}

TEST_CASE("metered counts each collective as its formula says") {
    const int ranks = GENERATE(1, 2, 3, 4, 7, 8, 9);
    REQUIRE_NOTHROW(seqpar::threads::run(ranks, [&](thread_communicator inner) {
        contract::findings found = contract::findings_of(inner, "metered");
        metered c(inner);
        metered native{native_threads(inner)};
        const int me = c.rank(), size = c.size();
        count_all_to_all(c, found, false);
        count_all_to_all(native, found, true);
        count_all_gather(c, found, false);
        count_all_gather(native, found, true);

        c.counts().reset();
        contract::bytes everyone(24 * static_cast<std::size_t>(size));
        const contract::bytes mine = contract::letter(me, 0, 0, 24);
        seqpar::collective::all_gather_doubling(c, contract::out_of(mine), everyone.data());
        expect(found, "all_gather_doubling", c.counts().of("all_gather_doubling"),
               {1, log2_up(size), std::int64_t{24} * (size - 1), log2_up(size)});

        c.counts().reset();
        const std::vector<double> values(3 * static_cast<std::size_t>(size), 1.0 + me);
        std::vector<std::span<const double>> parts;
        for (int r = 0; r < size; ++r) {
            parts.push_back(std::span(values).subspan(static_cast<std::size_t>(3 * r), 3));
        }
        std::vector<double> sum(3);
        seqpar::collective::reduce_scatter<double>(c, parts, sum, [](double& into, double from) { into += from; });
        found.expect(sum[2] == 0.5 * size * (size + 1), "sum");
        expect(found, "reduce_scatter", c.counts().of("reduce_scatter"),
               {1, size - 1, std::int64_t{24} * (size - 1), size - 1});

        c.counts().reset();
        seqpar::collective::barrier(c);
        seqpar::collective::barrier(native);
        expect(found, "barrier", c.counts().of("barrier"), {1, log2_up(size), log2_up(size), log2_up(size)});
        expect(found, "native barrier", native.counts().of("barrier"), {1, 0, 0, 0});
        expect(found, "a barrier is no payload", c.counts().payload(), {});

        c.counts().reset();
        auto part_of = c.split(me % 2, 0);
        expect(found, "split", c.counts().of("split"), {1, 0, 0, 0});
        expect(found, "a split is no payload", c.counts().payload(), {});
        seqpar::collective::barrier(part_of);
        const std::int64_t rounds = log2_up(part_of.size());
        expect(found, "a split counts into the same meter", c.counts().of("barrier"), {1, rounds, rounds, rounds});
        found.close();
    }));
}

TEST_CASE("the outermost operation has the name") {
    REQUIRE_NOTHROW(seqpar::threads::run(3, [](thread_communicator inner) {
        contract::findings found = contract::findings_of(inner, "names");
        metered c(inner);
        std::byte everyone[3] = {};
        const std::byte mine{7};
        {
            const auto preflight = c.operation("preflight");
            const auto inside = c.operation("inside");
            seqpar::collective::all_gather_doubling(c, {&mine, 1}, everyone);
            seqpar::collective::barrier(c);
        }
        expect(found, "preflight", c.counts().of("preflight"), {1, 4, 4, 4});
        expect(found, "payload", c.counts().payload(), {});
        found.expect(c.counts().by_name().size() == 1, "other names than preflight");
        seqpar::collective::all_gather_doubling(c, {&mine, 1}, everyone);
        expect(found, "after the preflight", c.counts().payload(), {1, 2, 2, 2});
        try {
            const auto failing = c.operation("failing");
            throw 1;    // NOLINT
        } catch (int) { /* the name has ended with its scope */
        }
        c.exchange({&mine, 1}, (c.rank() + 1) % 3, {everyone, 1}, (c.rank() + 2) % 3).wait();
        expect(found, "exchange", c.counts().of("exchange"), {1, 1, 1, 1});
        expect(found, "failing", c.counts().of("failing"), {1, 0, 0, 0});
        found.close();
    }));
}

TEST_CASE("a round is what is posted between two waits") {
    REQUIRE_NOTHROW(seqpar::threads::run(2, [](thread_communicator inner) {
        contract::findings found = contract::findings_of(inner, "rounds");
        metered c(inner);
        const int me = c.rank(), other = 1 - c.rank();
        const contract::bytes out = contract::letter(me, other, 0, 10);
        contract::bytes in(10), in2(10), in3(10), own(10);
        const auto rounds = [&] { return c.counts().of("exchange").rounds; };

        auto a = c.exchange(contract::out_of(out), other, contract::in_to(in), other);
        auto b = c.exchange(contract::out_of(out), other, contract::in_to(in2), other);
        found.expect(rounds() == 1, "two posted: ", rounds());
        auto nothing = c.exchange({}, other, {}, other);
        nothing.wait();
        auto d = c.exchange(contract::out_of(out), other, contract::in_to(in3), other);
        found.expect(rounds() == 1, "a wait for nothing ends no round: ", rounds());
        a.wait();
        auto e = c.exchange(contract::out_of(out), other, contract::in_to(in), other);
        found.expect(rounds() == 2, "one more after a wait: ", rounds());
        b.wait(), d.wait(), e.wait();

        c.exchange(contract::out_of(out), me, contract::in_to(own), me).wait();
        found.expect(rounds() == 2 && own == out, "what a rank tells itself is no round: ", rounds());
        expect(found, "in all", c.counts().of("exchange"), {4, 4, 40, 2});

        // Sends alone and receives alone are rounds of the ranks that have them.
        c.counts().reset();
        c.exchange({out.data(), me == 0 ? std::size_t{10} : 0}, other, {in.data(), me == 0 ? 0 : std::size_t{10}},
                   other)
            .wait();
        expect(found, "one way", c.counts().of("exchange"), {1, me == 0 ? 1 : 0, me == 0 ? 10 : 0, 1});

        c.counts().reset();
        c.exchange({nullptr, 1000}, other, {nullptr, 1000}, other).wait();
        expect(found, "ghosts", c.counts().of("exchange"), {1, 1, 1000, 1});
        found.close();
    }));
}
