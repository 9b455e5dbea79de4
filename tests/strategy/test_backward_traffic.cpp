/// What backward sends, counted, against the closed forms for even shards: n rows a rank, P = m + 1 ranks, h and k elements
/// a row of Q and of K; (a): in the accumulation type.
#include <support/catch.hpp>
#include <support/scheme_case.hpp>

#include <seqpar/comm/threads.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <memory>
#include <mutex>

using namespace seqpar;

namespace {

constexpr std::size_t n = 6, H = 8, d = 4, e = sizeof(bfloat16), a = sizeof(float);
constexpr std::size_t h = H * d;

/// Checks the counts of one backward on every rank.
template <class Strategy>
void check(const Strategy& strategy, std::size_t ranks, std::size_t kv_heads, saving save, bool dlse, std::size_t bytes,
           std::size_t rounds) {
    threads::run(static_cast<int>(ranks), [&](thread_communicator world) {
        const auto counted = std::make_shared<meter>();
        const auto rows = static_cast<index_t>(n), heads = static_cast<index_t>(H), dim = static_cast<index_t>(d);
        const auto seed = static_cast<std::uint64_t>(world.rank());
        const auto q = testing::normal<bfloat16>({1, rows, heads, dim}, seed),
                   k = testing::normal<bfloat16>({1, rows, static_cast<index_t>(kv_heads), dim}, seed + 9);
        const auto into_lse = testing::normal<float>({1, rows, heads, 1}, seed + 5);
        attention attend{metered<thread_communicator>(world, counted),
                         strategy,
                         striped{},
                         span_backend<bfloat16>{},
                         reference{},
                         options{.save = save}};
        const auto fwd = attend.forward(q, k, k);
        counted->reset();
        const auto g = attend.backward(q, fwd, dlse ? into_lse.view() : tensor_view<const float>{});
        static std::mutex mutex;
        const std::lock_guard lock(mutex);
        CHECK(static_cast<std::size_t>(counted->payload().bytes) == bytes);
        CHECK(static_cast<std::size_t>(counted->payload().rounds) == rounds);
        CHECK(static_cast<float>(g.dk(0, 3, 0, 2)) != 0);
    });
}

} // namespace

TEST_CASE("backward sends what the formulas say") {
    for (const std::size_t P : {std::size_t{2}, std::size_t{4}}) {
        const std::size_t m = P - 1, k = 4 * d;
        for (const saving save : {saving::keep, saving::resend})
            for (const ring& how : {ring{}, ring{ring_route::double_ring(2)}})
                check(how, P, 4, save, true, 2 * n * k * m * (e + a), m + (m >= 2 ? 2 : 1));
        const std::size_t hops = (m + 1) / 2;
        check(ring{ring_route::bidirectional()}, P, 4, saving::keep, false, 2 * n * k * m * (e + a),
              hops + (hops >= 2 ? 2 : 1));
        check(ring{.passing = ring_passing::queries}, P, 4, saving::keep, true,
              2 * n * h * m * e + (2 * n * H * m + n * h * m) * a, m + (m >= 2 ? 2 : 1));
        check(all_gather{}, P, 4, saving::keep, false, 2 * n * k * m * a, m);
        check(all_gather{}, P, 4, saving::resend, true, 2 * n * k * m * (a + e), 2 * m);
        check(all_gather{2}, P, 4, saving::keep, false, n * k * m * e + 2 * n * k * m * a, (m + 1) / 2 + m);
        const std::size_t log2 = P == 2 ? 1 : 2;
        check(all_gather{2, exchange_pattern::doubling}, P, 4, saving::resend, false, 2 * n * k * m * (e + a),
              log2 + (m + 1) / 2 + m);
        check(all_gather{0, exchange_pattern::ring}, P, 4, saving::resend, false, 2 * n * k * m * (e + a), 2 * m);
        check(ulysses<>{}, P, 4, saving::keep, false, (2 * h + 2 * k) * n * m / P * e, 2 * m);
        check(ulysses<>{}, P, 4, saving::keep, true, (2 * h + 2 * k) * n * m / P * e + H * n * m / P * a, 2 * m);
        check(ulysses<>{}, P, 4, saving::resend, false,
              ((2 * h + 2 * k) + (h + 2 * k)) * n * m / P * e + 2 * H * n * m / P * a, 2 * m);
    }
    // one kv head, read by all four ranks: dk and dv are unfinished sums
    check(ulysses<>{}, 4, 1, saving::keep, false, 2 * h * n * 3 / 4 * e + 2 * (4 * d) * n * 3 / 4 * a, 6);
    // over a ring: all-to-all in pairs, then two rings of two
    check(ulysses<ring>{2, {}}, 4, 4, saving::keep, false, (2 * h + 2 * 4 * d) * n / 2 * e + 2 * n * (4 * d) * (e + a),
          2 + 2);
}
