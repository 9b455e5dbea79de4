#include <support/catch.hpp>

#include <seqpar/score/any_score.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <functional>
#include <string>
#include <vector>

using namespace seqpar;

namespace {

struct known {
    any_score score;
    std::function<bool(lengths, index_t, index_t)> sees; ///< from the definition
};

std::vector<known> scores() {
    const auto bottom_right = alignment::bottom_right();
    const auto in = [](index_t p, index_t j, index_t left, index_t right) {
        return (left < 0 || j >= p - left) && (right < 0 || j <= p + right);
    };
    return {
        {full{}, [](lengths, index_t, index_t) { return true; }},
        {causal{}, [](lengths, index_t i, index_t j) { return j <= i; }},
        {causal{bottom_right}, [](lengths n, index_t i, index_t j) { return j <= i + n.keys - n.queries; }},
        {causal{alignment::at(-4)}, [](lengths, index_t i, index_t j) { return j <= i - 4; }},
        {causal{alignment::at(7)}, [](lengths, index_t i, index_t j) { return j <= i + 7; }},
        {sliding_window{3, 2}, [=](lengths, index_t i, index_t j) { return in(i, j, 3, 2); }},
        {sliding_window{0, 0, bottom_right},
         [=](lengths n, index_t i, index_t j) { return in(i + n.keys - n.queries, j, 0, 0); }},
        {sliding_window{-1, 1}, [=](lengths, index_t i, index_t j) { return in(i, j, -1, 1); }},
        {sliding_window{5, -1}, [=](lengths, index_t i, index_t j) { return in(i, j, 5, -1); }},
        {sliding_window{}, [](lengths, index_t, index_t) { return true; }},
        {causal{} & sliding_window{4, 9}, [=](lengths, index_t i, index_t j) { return j <= i && in(i, j, 4, 9); }},
    };
}

} // namespace

TEST_CASE("every score sees what its definition says, in every run of keys, and covers tiles truly") {
    const lengths n{23, 29};
    const std::vector<run> runs{
        {position(0), 1, 29}, {position(3), 4, 6}, {position(10), 1, 7}, {position(28), 1, 1}, {position(1), 27, 2}};
    for (const known& k : scores()) {
        INFO(k.score.name());
        for (const run& keys : runs)
            for (index_t first = 0; first < n.queries; first += 3)
                for (index_t last = first; last < n.queries; last += 4) {
                    index_t seen = 0, pairs = 0;
                    for (index_t i = first; i <= last; ++i) {
                        const interval got = k.score.visible(n, position(i), keys);
                        for (index_t item = 0; item < keys.count; ++item, ++pairs) {
                            const bool expected = k.sees(n, i, keys[item].value);
                            REQUIRE((item >= got.first && item < got.last) == expected);
                            seen += expected;
                        }
                    }
                    const coverage c = k.score.cover(n, {position(first), position(last)}, keys.range());
                    if (c == coverage::none) REQUIRE(seen == 0);
                    if (c == coverage::full) REQUIRE(seen == pairs);
                    // dense tiles are classified exactly, so that kernels skip all that can be skipped
                    if (keys.stride == 1 && k.score.name().find('&') == std::string::npos) {
                        if (seen == 0) REQUIRE(c == coverage::none);
                        if (seen == pairs) REQUIRE(c == coverage::full);
                    }
                }
    }
}

TEST_CASE("parameters that make no sense are refused with their value") {
    const auto message = [](const any_score& s) -> std::string {
        try {
            s.check();
        } catch (const refusal& why) {
            return why.what();
        }
        return {};
    };
    for (const known& k : scores()) CHECK(message(k.score).empty());
    CHECK(message(sliding_window{-2, 0}).find("window of -2 to the left") != std::string::npos);
    CHECK(message(sliding_window{0, (index_t{1} << 60) + 1}).find("-1 (open) or 0 to 2^60") != std::string::npos);
    CHECK(message(causal{alignment::at(-(index_t{1} << 61))}).find("query offset -2305843009213693952") !=
          std::string::npos);
    CHECK(message(full{} & sliding_window{-7, 0}).find("-7") != std::string::npos);
}

TEST_CASE("names tell scores apart") {
    std::vector<std::string> names;
    for (const known& k : scores()) names.push_back(k.score.name());
    for (std::size_t a = 0; a < names.size(); ++a)
        for (std::size_t b = 0; b < a; ++b) CHECK(names[a] != names[b]);
}
