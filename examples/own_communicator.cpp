// A communicator of one's own under a ring, as if it were the library's. own_communicator.hpp is the whole of it: rank,
// size, exchange, split, and a request that can be waited for.
#include "own_communicator.hpp"

#include <seqpar/seqpar.hpp>

#include <iostream>
#include <random>
#include <thread>
#include <vector>

int main() {
    using namespace seqpar;
    constexpr int ranks = 4;
    const auto shared = std::make_shared<board>();
    std::vector<report> reports(ranks);
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks; ++r)
        threads.emplace_back([&, r] {
            attention attend{board_communicator(shared, r, ranks), ring{}, striped{}, causal{}};
            tensor<float> x({1, 40, 2, 16});
            std::mt19937 random(static_cast<unsigned>(r));
            std::normal_distribution<float> normal;
            std::generate_n(x.data(), x.shape().count(), [&] { return normal(random); });
            reports[static_cast<std::size_t>(r)] = verify(attend, x, x, x);
        });
    for (std::thread& each : threads) each.join();

    bool verified = true;
    for (const report& r : reports) verified = verified && r.passed;
    std::cout << "ring over " << ranks << " ranks that share a board: " << reports[0].text() << '\n';
    return verified ? 0 : 1;
}
