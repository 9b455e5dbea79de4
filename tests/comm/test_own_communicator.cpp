#include "../../examples/own_communicator.hpp"
#include "support/catch.hpp"
#include "support/comm_contract.hpp"

#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/threads.hpp>

TEST_CASE("the example of a communicator of one's own fulfils the contract") {
    const int ranks = GENERATE(1, 2, 3, 4, 7);
    contract::all([&](const char* name, const auto& check) {
        INFO(name << " on " << ranks);
        const auto shared = std::make_shared<board>();
        const auto also_shared = std::make_shared<board>();
        REQUIRE_NOTHROW(seqpar::threads::run(ranks, [&](const seqpar::thread_communicator& c) {
            check(board_communicator(shared, c.rank(), c.size()));
            check(seqpar::metered(board_communicator(also_shared, c.rank(), c.size())));
        }));
    });
}
