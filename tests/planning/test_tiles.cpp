/// Pairs in the tiles that a kernel computes, against each tile and each pair counted by itself.
#include <support/catch.hpp>

#include <seqpar/kernel/tiles_seen.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/sliding_window.hpp>

#include <algorithm>
#include <vector>

using namespace seqpar;

namespace {

/// Positions of rows in stretches that are tiled from their beginning: runs, where there are no more than four; of more, as long
/// as they ascend.
[[nodiscard]] std::vector<std::vector<position>> stretches(const positions& rows) {
    std::vector<std::vector<position>> all;
    for (const run& r : rows.runs()) {
        if (all.empty() || rows.runs().size() <= 4 || r.first < all.back().back()) all.emplace_back();
        for (index_t i = 0; i < r.count; ++i) all.back().push_back(r[i]);
    }
    return all;
}

struct tile_counts {
    double visible = 0;  ///< pairs that see each other
    double computed = 0; ///< in tiles of which the score does not say that nothing is seen
    double boundary = 0; ///< in tiles that are seen in part
};

[[nodiscard]] tile_counts counted(const any_score& s, lengths n, const positions& queries, const positions& keys,
                                  index_t tile) {
    tile_counts c;
    const auto step = static_cast<std::size_t>(tile);
    for (const auto& q : stretches(queries))
        for (const auto& k : stretches(keys))
            for (std::size_t i = 0; i < q.size(); i += step)
                for (std::size_t j = 0; j < k.size(); j += step) {
                    const std::size_t rows = std::min(step, q.size() - i), columns = std::min(step, k.size() - j);
                    double seen = 0;
                    for (std::size_t a = i; a < i + rows; ++a)
                        for (std::size_t b = j; b < j + columns; ++b)
                            seen += !s.visible(n, q[a], run{k[b], 1, 1}).empty();
                    const auto area = static_cast<double>(rows * columns);
                    c.visible += seen;
                    if (seen > 0 && seen < area) c.boundary += area;
                    if (s.cover(n, {q[i], q[i + rows - 1]}, {k[j], k[j + columns - 1]}) != coverage::none)
                        c.computed += area;
                }
    return c;
}

[[nodiscard]] std::vector<any_score> masks() {
    return {causal{},
            causal{alignment::at(-20)},
            sliding_window{17, 5},
            sliding_window{0, 0},
            causal{} & sliding_window{30, 30},
            documents{{0, 5, 5, 60, 83, 130}},
            any_score(documents{{0, 40, 91}}) & any_score(causal{})};
}

[[nodiscard]] std::vector<positions> blocks() {
    positions many; // six runs that ascend, six more that begin before
    for (index_t first = 0; first < 60; first += 10) many.append({position(first), 1, 7});
    for (index_t first = 0; first < 60; first += 10) many.append({position(first + 7), 1, 3});
    std::vector<positions> all{positions::whole(130),      {run{position(100), 1, 30}, run{position(10), 1, 21}},
                               {run{position(3), 4, 31}},  many,
                               {run{position(129), 1, 1}}, {}};
    for (const any_layout& layout : {any_layout(contiguous{}), any_layout(zigzag{}), any_layout(striped{})})
        all.push_back(layout.positions(1, 3, 130));
    return all;
}

} // namespace

TEST_CASE("pairs in tiles are those of each tile, no fewer than are visible") {
    const lengths n{130, 130};
    int partly = 0;
    for (const any_score& s : masks())
        for (const positions& queries : blocks())
            for (const positions& keys : blocks())
                for (const index_t tile : {1, 8, 31, 128}) {
                    const tile_counts expected = counted(s, n, queries, keys, tile);
                    const double pairs = pairs_in_tiles(s, n, queries, keys, tile);
                    INFO(s.name() << ", tile " << tile << ", " << queries.runs().size() << " runs of queries and "
                                  << keys.runs().size() << " of keys");
                    CHECK(pairs == expected.computed);
                    CHECK(pairs >= expected.visible);
                    partly += pairs > expected.visible && pairs < static_cast<double>(queries.size() * keys.size());
                }
    CHECK(partly > 100);
}

TEST_CASE("of rows that lie together, pairs in tiles exceed what is visible by the tiles that are seen in part alone") {
    const lengths n{130, 130};
    const std::vector<any_score> exact{causal{}, causal{alignment::at(-20)}, sliding_window{17, 5},
                                       sliding_window{0, 0}};
    const std::vector<positions> together{positions::whole(130), {run{position(40), 1, 77}}, {run{position(0), 1, 9}}};
    for (const any_score& s : exact)
        for (const positions& queries : together)
            for (const positions& keys : together)
                for (const index_t tile : {1, 8, 31}) {
                    const tile_counts expected = counted(s, n, queries, keys, tile);
                    INFO(s.name() << ", tile " << tile);
                    CHECK(pairs_in_tiles(s, n, queries, keys, tile) <= expected.visible + expected.boundary);
                    if (tile == 1) CHECK(pairs_in_tiles(s, n, queries, keys, tile) == expected.visible);
                }
}

TEST_CASE("all pairs of what sees all, none of what sees nothing") {
    for (const positions& queries : blocks())
        for (const positions& keys : blocks()) {
            const double all = static_cast<double>(queries.size() * keys.size());
            CHECK(pairs_in_tiles(any_score(full{}), {130, 130}, queries, keys) == all);
            CHECK(pairs_in_tiles(any_score(causal{alignment::at(-1000)}), {130, 130}, queries, keys) == 0);
            CHECK(pairs_in_tiles(any_score(causal{alignment::at(1000)}), {130, 130}, queries, keys) == all);
        }
}

TEST_CASE("of many rows a tile is a 128th: the share that is computed does not depend on the length") {
    for (const index_t rows : {index_t{1} << 14, index_t{1} << 20, index_t{1} << 40}) {
        const positions whole = positions::whole(rows);
        const double all = static_cast<double>(rows) * static_cast<double>(rows);
        CHECK(pairs_in_tiles(any_score(causal{}), {rows, rows}, whole, whole) == all * 129 / 256);
    }
    // Beside few keys, tiles stay as small as they are.
    const index_t rows = index_t{1} << 20;
    CHECK(pairs_in_tiles(any_score(causal{}), {rows, rows}, positions::whole(rows), positions::whole(128)) ==
          128.0 * static_cast<double>(rows));
    CHECK(pairs_in_tiles(any_score(causal{}), {rows, rows}, positions::whole(256),
                         {run{position(128), 1, rows - 128}}) == 128.0 * 128);
}
