#include "support/catch.hpp"
#include "support/comm_contract.hpp"

#include <seqpar/comm/self.hpp>
#include <seqpar/core/error.hpp>

using contract::contains;

TEST_CASE("self_communicator fulfils the contract") {
    contract::all([](const char* name, const auto& check) {
        INFO(name);
        REQUIRE_NOTHROW(check(seqpar::self_communicator{}));
    });
}

TEST_CASE("self_communicator refuses what can never arrive") {
    seqpar::self_communicator c;
    contract::bytes sent = contract::letter(0, 0, 0, 16), got(24);

    SECTION("sizes that differ") {
        auto request = c.exchange(contract::out_of(sent), 0, {}, 0);
        const std::string text =
            contract::text_thrown_by<seqpar::communication_error>([&] { c.exchange({}, 0, contract::in_to(got), 0); });
        REQUIRE(contains(text, "sends 16 bytes"));
        REQUIRE(contains(text, "expects 24"));
    }
    SECTION("another rank") {
        REQUIRE_THROWS_AS(c.exchange(contract::out_of(sent), 1, {}, 0), seqpar::communication_error);
        const std::string text =
            contract::text_thrown_by<seqpar::communication_error>([&] { c.exchange({}, 0, contract::in_to(got), -1); });
        REQUIRE(contains(text, "rank -1"));
        REQUIRE(contains(text, "0 to 0"));
    }
    SECTION("waiting for what was not posted") {
        auto request = c.exchange({}, 0, contract::in_to(got), 0);
        REQUIRE_FALSE(request.test());
        REQUIRE_THROWS_AS(request.wait(), seqpar::communication_error);
    }
}

TEST_CASE("self_communicator: ghosts take their place and move nothing") {
    seqpar::self_communicator c;
    contract::bytes real = contract::letter(0, 0, 0, 100), got = contract::blank(100);
    auto first = c.exchange({nullptr, 100}, 0, {}, 0);
    auto second = c.exchange(contract::out_of(real), 0, {}, 0);
    c.exchange({}, 0, contract::in_to(got), 0).wait();
    REQUIRE(got == contract::blank(100));
    c.exchange({}, 0, contract::in_to(got), 0).wait();
    REQUIRE(got == real);
}

TEST_CASE("self_communicator: a withdrawn send does not take a later one's place") {
    seqpar::self_communicator c;
    contract::bytes lost = contract::letter(0, 0, 0, 8), kept = contract::letter(0, 0, 1, 8), got(8);
    { auto withdrawn = c.exchange(contract::out_of(lost), 0, {}, 0); }
    auto request = c.exchange(contract::out_of(kept), 0, contract::in_to(got), 0);
    request.wait();
    REQUIRE(got == kept);
}
