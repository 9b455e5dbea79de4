// A communicator of one's own, used by the library's collectives as if it were the library's. own_communicator.hpp is the
// whole of it: rank, size, exchange, split, and a request that can be waited for.
#include "own_communicator.hpp"

#include <seqpar/comm/collectives.hpp>

#include <cstdio>
#include <span>
#include <thread>

namespace {

constexpr int ranks = 4;

/// Rank r holds {1, 2, 3, 4} * 10^r, and gets element r of the sum over the ranks.
long sum_of_my_column(board_communicator c) {
    long scale = 1;
    for (int r = 0; r < c.rank(); ++r) {
        scale *= 10;
    }
    std::vector<long> row;
    std::vector<std::span<const long>> parts;
    for (int r = 0; r < c.size(); ++r) {
        row.push_back((r + 1) * scale);
    }
    for (const long& element : row) {
        parts.emplace_back(&element, 1);
    }
    long sum = 0;
    seqpar::collective::reduce_scatter<long>(c, parts, std::span<long>(&sum, 1),
                                             [](long& into, long from) { into += from; });
    seqpar::collective::barrier(c);
    return sum;
}

} // namespace

int main() {
    const auto shared = std::make_shared<board>();
    std::vector<long> sums(ranks);
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks; ++r) {
        threads.emplace_back([&, r] { sums[static_cast<std::size_t>(r)] = sum_of_my_column({shared, r, ranks}); });
    }
    for (std::thread& each : threads) {
        each.join();
    }

    bool right = true;
    for (int r = 0; r < ranks; ++r) {
        const long sum = sums[static_cast<std::size_t>(r)];
        std::printf("rank %d: %ld\n", r, sum);
        right = right && sum == (r + 1) * 1111L;
    }
    return right ? 0 : 1;
}
