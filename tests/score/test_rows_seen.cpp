/// Which keys of a block some queries see, against each pair by itself: queries in any order of runs, keys of any step.
#include <support/catch.hpp>

#include <seqpar/score/any_score.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/rows_seen.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <vector>

using namespace seqpar;

TEST_CASE("the rows that queries see are those that some of them sees, each once and in order") {
    const lengths n{40, 40};
    const std::vector<positions> blocks{
        positions::whole(40),
        {run{position(30), 1, 8}, run{position(2), 1, 5}}, // the later ones first: what they see holds what others see
        {run{position(12), 1, 1}, run{position(0), 1, 40}},
        {run{position(1), 4, 9}},
        {run{position(35), 1, 3}, run{position(0), 7, 5}, run{position(20), 1, 2}},
        {run{position(39), 1, 1}}};
    const std::vector<any_score> scores{
        causal{},
        sliding_window{3, 2},
        sliding_window{0, 0},
        documents{{0, 5, 5, 21, 33}},
        any_score(documents{{0, 5, 5, 21, 33}}) & any_score(causal{}),
    };
    index_t some = 0;
    for (const any_score& s : scores)
        for (const positions& queries : blocks)
            for (const positions& keys : blocks) {
                std::vector<index_t> rows;
                for (index_t j = 0; j < keys.size(); ++j) {
                    bool seen = false;
                    for (index_t i = 0; i < queries.size(); ++i)
                        seen = seen || !s.visible(n, queries[i], run{keys[j], 1, 1}).empty();
                    if (seen) rows.push_back(j);
                }
                const row_selection got = rows_seen(s, n, queries, keys);
                std::vector<index_t> expanded;
                for (const interval& part : got.rows)
                    for (index_t j = part.first; j < part.last; ++j) expanded.push_back(j);
                INFO(s.name());
                CHECK(expanded == rows);
                REQUIRE(got.at.size() == static_cast<index_t>(expanded.size()));
                for (std::size_t j = 0; j < expanded.size(); ++j)
                    CHECK(got.at[static_cast<index_t>(j)] == keys[expanded[j]]);
                some += !rows.empty() && static_cast<index_t>(rows.size()) < keys.size();
            }
    CHECK(some > 50);
}
