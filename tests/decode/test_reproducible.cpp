/// @file
/// Decoding with the kernel `reproducible`: the same bits on any number of ranks, right, and at the predicted cost.
#include <support/catch.hpp>

#include <decode/decode_case.hpp>
#include <strategy/thread_product.hpp>

#include <seqpar/kernel/reproducible.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/sink.hpp>

#include <cstring>
#include <vector>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

/// out and lse of the last of some steps, on so many ranks.
template <class Kernel>
[[nodiscard]] std::vector<float> decoded_on(int ranks, const any_layout& layout, const Kernel& kernel) {
    const auto q = normal<float>({1, 50, 4, 8}, 1), k = normal<float>({1, 50, 2, 8}, 2),
               v = normal<float>({1, 50, 2, 6}, 3);
    std::vector<float> last;
    threads::run(ranks, [&](thread_communicator world) {
        kv_cache<float, any_layout> cache{world, {.batch = 1, .kv_heads = 2, .dim = 8, .dim_v = 6}, layout};
        decode attend{world, causal{} & sink({1, 0, -1, 2}), kernel};
        for (const auto& [first, count] : {std::pair<index_t, index_t>{0, 41}, {41, 1}, {42, 8}}) {
            cache.append(k.view().rows(first, count), v.view().rows(first, count));
            const auto [out, lse] = attend.step(q.view().rows(first, count), cache);
            if (world.rank() != 0) continue;
            last.assign(out.data(), out.data() + out.shape().count());
            last.insert(last.end(), lse.data(), lse.data() + lse.shape().count());
        }
    });
    return last;
}

} // namespace

TEST_CASE("decoding reproducibly gives the bits of one rank on any number of ranks") {
    const auto want = decoded_on(1, contiguous{}, reproducible{});
    REQUIRE(want.size() == 8 * 4 * 7);
    int others = 0;
    for (const int ranks : {2, 3, 4, 7})
        for (const any_layout& layout : {any_layout(contiguous{}), any_layout(striped{})}) {
            const auto got = decoded_on(ranks, layout, reproducible{});
            CHECK(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) == 0);
            const auto by_flash = decoded_on(ranks, layout, flash{});
            others += std::memcmp(by_flash.data(), want.data(), want.size() * sizeof(float)) != 0;
        }
    CHECK(others > 4); // it is not easily had
}

TEST_CASE("decoding reproducibly is right, and costs what is predicted") {
    for (const int ranks : {1, 3})
        CHECK(said_by_ranks(ranks, [&](thread_communicator world) {
                  return trouble_with<float>(
                      world, reproducible{},
                      decode_case{
                          {2, 2, 8, 5}, 4, striped{}, any_score(causal{}) & sink({1, 0, -1, 2}), one_by_one(2, 20)});
              }) == "");
}
