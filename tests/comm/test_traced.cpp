/// What a rank did and when: the spans hold what the meter counts, they change nothing, and overlap is what it says.
#include <support/all_strategies.hpp>
#include <support/catch.hpp>
#include <support/comm_contract.hpp>

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/traced.hpp>
#include <seqpar/core/time_shares.hpp>
#include <seqpar/kernel/traced_kernel.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

using namespace seqpar;
using category = timeline::category;

namespace {

/// Threads with a native all-to-all and barrier, as MPI has them.
struct native_threads : thread_communicator {
    explicit native_threads(thread_communicator c) : thread_communicator(std::move(c)) {}
    native_threads split(int color, int key) { return native_threads(thread_communicator::split(color, key)); }
    void barrier() { collective::barrier(static_cast<thread_communicator&>(*this)); }
    void all_to_all(std::span<const outgoing> out, std::span<const incoming> in) {
        collective::all_to_all(static_cast<thread_communicator&>(*this), out, in);
    }
};
static_assert(native_barrier<traced<native_threads>> && native_all_to_all<traced<native_threads>>);
static_assert(!native_barrier<traced<thread_communicator>> && !native_all_to_all<traced<thread_communicator>>);
static_assert(kernel<traced_kernel<flash>> && differentiable_kernel<traced_kernel<flash>, double>);
static_assert(kernel<traced_kernel<any_kernel>, bfloat16, any_score>);

using spans = std::vector<timeline::span>;

std::size_t count(const spans& all, category what) {
    return static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [=](const timeline::span& s) { return s.what == what; }));
}

/// Spans of these kinds that overlap: there must be none.
bool disjoint(const spans& all, const std::vector<category>& kinds) {
    spans some;
    for (const timeline::span& s : all)
        if (std::find(kinds.begin(), kinds.end(), s.what) != kinds.end()) some.push_back(s);
    std::sort(some.begin(), some.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < some.size(); ++i)
        if (some[i].begin < some[i - 1].end) return false;
    return true;
}

template <class T>
bool same_bits(const tensor<T>& a, const tensor<T>& b) {
    return a.shape() == b.shape() &&
           std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.shape().count()) * sizeof(T)) == 0;
}

/// Bytes sent of each operation, as spans and as the meter have it; and other faults of a timeline.
std::string trouble_with(const timeline& traced, const meter& counted, int rank, int size) {
    std::ostringstream text;
    std::map<std::string, std::int64_t> by_name;
    std::int64_t payload = 0;
    for (const timeline::span& s : traced.spans()) {
        const std::string name(s.name.text());
        if (s.begin > s.end) text << name << " ends before it begins\n";
        const bool moves = s.what == category::exchange || s.what == category::collective;
        if (!moves && s.moved.sent + s.moved.received != 0) text << name << " is no transfer and has bytes\n";
        if (s.what == category::exchange &&
            (s.moved.to == rank || s.moved.from == rank || s.moved.to >= size || s.moved.from >= size ||
             (s.moved.to < 0) != (s.moved.sent == 0) || (s.moved.from < 0) != (s.moved.received == 0)))
            text << name << " to " << s.moved.to << " from " << s.moved.from << '\n';
        if (s.what == category::kernel && (s.computed.rows < 1 || s.computed.heads < 1))
            text << "a kernel of nothing\n";
        if (moves) by_name[name] += static_cast<std::int64_t>(s.moved.sent);
        if (moves && is_payload(name)) payload += static_cast<std::int64_t>(s.moved.sent);
    }
    for (const auto& [name, has] : counted.by_name())
        if (by_name[name] != has.bytes)
            text << name << ": " << by_name[name] << " bytes, counted " << has.bytes << '\n';
    if (payload != counted.payload().bytes) text << "payload " << payload << '\n';
    const spans& all = traced.spans();
    if (count(all, category::post) != count(all, category::exchange) ||
        count(all, category::wait) != count(all, category::exchange))
        text << "posts, exchanges and waits differ\n";
    if (!disjoint(all, {category::kernel})) text << "kernel calls overlap\n";
    if (!disjoint(all, {category::kernel, category::collective, category::post, category::wait}))
        text << "a rank does two things at once\n";
    return text.str();
}

/// Forward and backward of a strategy on a rank, traced and not: what is wrong.
template <communicator C>
std::string trouble_of(C world, std::size_t which) {
    using comm_type = traced<metered<C>>;
    const auto traced_one = testing::all_strategies<comm_type>(world.size())[which];
    const auto plain_one = testing::all_strategies<C>(world.size())[which];
    const zigzag layout;
    const auto part = [&](const extents& e, std::uint64_t seed) {
        return testing::whole_run<float>::part(testing::normal<float>(e, seed),
                                               layout.positions(world.rank(), world.size(), e.seq));
    };
    const auto q = part({2, 23, 6, 5}, 1), k = part({2, 23, 6, 5}, 2), v = part({2, 23, 6, 4}, 3),
               dout = part({2, 23, 6, 4}, 4);

    const auto times = std::make_shared<timeline>();
    const auto counts = std::make_shared<meter>();
    attention plain{world, plain_one, layout, any_score(causal{}), any_kernel(flash{})};
    attention attend{comm_type(metered<C>(world, counts), times), traced_one, layout, any_score(causal{}),
                     any_kernel(traced_kernel(flash{}, times))};
    const auto expected = plain.forward(q, k, v);
    const auto have = attend.forward(q, k, v);
    const auto expected_back = plain.backward(dout, expected);
    const auto have_back = attend.backward(dout, have);

    std::string text = trouble_with(*times, *counts, world.rank(), world.size());
    if (!same_bits(expected.out, have.out)) text += "other bits of the output\n";
    if (!same_bits(expected_back.dq, have_back.dq) || !same_bits(expected_back.dk, have_back.dk) ||
        !same_bits(expected_back.dv, have_back.dv))
        text += "other bits of the gradients\n";
    if (count(times->spans(), category::kernel) < 2) text += "no kernel calls\n";
    if (plain.name() != attend.name()) text += "another name: " + attend.name() + '\n';
    return text.empty() ? text : attend.name() + ", rank " + std::to_string(world.rank()) + ":\n" + text;
}

template <class C>
void all_strategies_on(int ranks) {
    const std::size_t strategies = testing::all_strategies<thread_communicator>(ranks).size();
    for (std::size_t which = 0; which < strategies; ++which) {
        std::vector<std::string> troubles(static_cast<std::size_t>(ranks));
        threads::run(ranks, [&](thread_communicator world) {
            troubles[static_cast<std::size_t>(world.rank())] = trouble_of(C(world), which);
        });
        for (const std::string& trouble : troubles) CHECK(trouble == "");
    }
}

/// A span of hand-made times, in milliseconds.
timeline::span made(category what, int begin, int end, const char* name = "exchange") {
    const auto at = [](int ms) { return timeline::clock::time_point(std::chrono::milliseconds(1000 + ms)); };
    return {what, name, at(begin), at(end), {}, {}};
}

} // namespace

TEST_CASE("traced fulfils the contract") {
    const int ranks = GENERATE(1, 2, 3, 4, 7);
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " on " << ranks);
        REQUIRE_NOTHROW(threads::run(ranks, [&](thread_communicator c) { check(traced(c)); }));
        REQUIRE_NOTHROW(threads::run(ranks, [&](thread_communicator c) { check(traced(c, nullptr)); }));
        REQUIRE_NOTHROW(threads::run(ranks, [&](thread_communicator c) { check(traced(native_threads(c))); }));
    });
}

TEST_CASE("every strategy traced has the bytes of the meter, and the bits of the untraced") {
    const int ranks = GENERATE(2, 3, 4);
    all_strategies_on<thread_communicator>(ranks);
    if (ranks == 4) all_strategies_on<native_threads>(ranks);
}

TEST_CASE("a ring's timeline: P kernels, and P - 1 exchanges posted before the kernel that they hide behind") {
    const int ranks = 4;
    threads::run(ranks, [&](thread_communicator world) {
        contract::findings found = contract::findings_of(world, "ring");
        const auto times = std::make_shared<timeline>();
        attention attend{traced(world, times), ring{}, traced_kernel(flash{}, times)};
        const auto q = testing::normal<float>({1, 64, 2, 8}, static_cast<std::uint64_t>(world.rank()));
        static_cast<void>(attend.forward(q, q, q));
        times->reset();
        static_cast<void>(attend.forward(q, q, q));
        spans kernels, exchanges;
        for (const timeline::span& s : times->spans()) {
            if (s.what == category::kernel) kernels.push_back(s);
            if (s.what == category::exchange && s.name.text() == "exchange") exchanges.push_back(s);
        }
        found.expect(kernels.size() == 4 && exchanges.size() == 3, kernels.size(), " kernels, ", exchanges.size());
        for (std::size_t i = 0; i < exchanges.size(); ++i) {
            found.expect(exchanges[i].begin <= kernels[i].begin, "posted after the kernel began: ", i);
            found.expect(exchanges[i].end <= kernels[i + 1].begin, "the next kernel began before it was there: ", i);
            found.expect(exchanges[i].moved.to == (world.rank() + 1) % ranks, "to ", exchanges[i].moved.to);
            found.expect(exchanges[i].moved.from == (world.rank() + 3) % ranks, "from ", exchanges[i].moved.from);
            found.expect(exchanges[i].moved.sent == 64 * 2 * 8 * 2 * sizeof(float), exchanges[i].moved.sent);
            found.expect(exchanges[i].moved.received == exchanges[i].moved.sent, exchanges[i].moved.received);
        }
        for (const timeline::span& s : kernels)
            found.expect(s.computed.batch == 1 && s.computed.rows == 64 && s.computed.keys == 64 &&
                             s.computed.heads == 2 && s.name.text() == "forward",
                         "a kernel of ", s.computed.rows, " x ", s.computed.keys);
        const time_shares shares = shares_of(times->spans());
        found.expect(shares.covered > 0 && shares.overlap() <= 1, "overlap ", shares.overlap());
        found.expect(shares.kernel > 0 && shares.kernel + shares.waiting <= shares.whole, "more than the whole");
        found.close();
    });
}

TEST_CASE("an exchange ends when test says so first, and one that is withdrawn leaves no span of itself") {
    threads::run(2, [](thread_communicator inner) {
        contract::findings found = contract::findings_of(inner, "ends");
        const auto times = std::make_shared<timeline>();
        traced c(inner, times);
        const int other = 1 - c.rank();
        const std::byte mine{1};
        std::byte theirs{0};
        auto posted = c.exchange({&mine, 1}, other, {&theirs, 1}, other);
        collective::barrier(inner); // both sides are posted
        found.expect(posted.test() && posted.test(), "not there");
        const auto known = timeline::clock::now();
        found.expect(count(times->spans(), category::exchange) == 1, "no span, or two");
        found.expect(count(times->spans(), category::wait) == 0, "a wait");
        posted.wait();
        posted.wait();
        found.expect(count(times->spans(), category::exchange) == 1 && count(times->spans(), category::wait) == 1,
                     "waiting twice is one wait");
        for (const timeline::span& s : times->spans())
            if (s.what == category::exchange) found.expect(s.end <= known, "ends late");
        times->reset();
        { [[maybe_unused]] const auto withdrawn = c.exchange({}, 0, {&theirs, 1}, other); }
        c.exchange({&mine, 1}, c.rank(), {&theirs, 1}, c.rank()).wait();
        c.exchange({}, 0, {}, 0).wait();
        found.expect(count(times->spans(), category::exchange) == 0, "a span of nothing");
        found.close();
    });
}

TEST_CASE("a split writes into the same timeline, and what is inside has its name") {
    threads::run(4, [](thread_communicator inner) {
        contract::findings found = contract::findings_of(inner, "split");
        traced c{metered(inner)};
        {
            const auto named = c.operation("preflight");
            collective::barrier(c);
        }
        auto half = c.split(c.rank() / 2, c.rank());
        const std::byte mine{1};
        std::byte both[2] = {};
        collective::all_gather_doubling(half, {&mine, 1}, both);
        found.expect(half.shared_timeline() == c.shared_timeline(), "two timelines");
        std::map<std::string, std::size_t> bytes;
        const timeline::span& gathered = *std::find_if(
            c.shared_timeline()->spans().begin(), c.shared_timeline()->spans().end(),
            [](const timeline::span& s) { return s.what == category::exchange && s.name.text() != "preflight"; });
        found.expect(gathered.moved.to == (c.rank() ^ 1), "a rank of the half, not of the whole: ", gathered.moved.to);
        for (const timeline::span& s : c.shared_timeline()->spans()) bytes[std::string(s.name.text())] += s.moved.sent;
        found.expect(bytes ==
                         std::map<std::string, std::size_t>{{"preflight", 2}, {"split", 4}, {"all_gather_doubling", 1}},
                     "other names");
        found.expect(c.inner().counts().of("preflight").bytes == 2, "the inner communicator hears the names");
        found.close();
    });
}

TEST_CASE("a hand-made timeline has the overlap that it has") {
    // ms        0    10   20   30   40   50   60   70   80   90
    // exchange  |---------|    |---------|         |----|
    //                |---------|
    // kernel         |----|         |-------------------|
    const spans all{
        made(category::kernel, 10, 20),   made(category::exchange, 0, 20),
        made(category::wait, 20, 30),     made(category::exchange, 10, 30),
        made(category::exchange, 30, 50), made(category::kernel, 40, 80),
        made(category::wait, 80, 82),     made(category::exchange, 70, 80),
        made(category::post, 0, 1),       made(category::exchange, 84, 90, "preflight"), // no payload: does not count
        made(category::wait, 84, 90),
    };
    const auto near = [](double seconds, double ms) { return std::abs(seconds - ms / 1000) < 1e-9; };
    time_shares s = shares_of(all);
    CHECK(near(s.whole, 90));
    CHECK(near(s.kernel, 50));
    CHECK(near(s.waiting, 19));
    CHECK(near(s.exchange, 60)); // 0 to 50, 70 to 80
    CHECK(near(s.covered, 30));  // 10 to 20, 40 to 50, 70 to 80
    CHECK(s.overlap() == Approx(0.5));

    spans in_passes = all; // what is outside of passes counts for overlap alone
    in_passes.push_back(made(category::pass, 5, 25, "forward"));
    in_passes.push_back(made(category::pass, 60, 81, "backward"));
    s = shares_of(in_passes);
    CHECK(near(s.whole, 41));
    CHECK(near(s.kernel, 30));
    CHECK(near(s.waiting, 6));
    CHECK(s.overlap() == Approx(0.5));
    CHECK(s.kernel_share() == Approx(30.0 / 41));

    CHECK(shares_of({}).overlap() == 0);
    const spans collective{made(category::collective, 0, 10, "all_to_all"), made(category::kernel, 10, 30)};
    s = shares_of(collective); // a native collective covers nothing and is covered by nothing
    CHECK(near(s.exchange, 10));
    CHECK(s.overlap() == 0);
    CHECK(near(s.waiting, 10));
    time_shares sum = s;
    sum += shares_of(all);
    CHECK(near(sum.exchange, 70));
    CHECK(near(sum.covered, 30));
}

TEST_CASE("a name that is too long is cut off") {
    CHECK(span_name("all_gather_doubling").text() == "all_gather_doubling");
    CHECK(span_name(std::string(50, 'x')).text() == std::string(31, 'x'));
    CHECK(span_name().text().empty());
}
