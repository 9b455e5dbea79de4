#pragma once

#include <seqpar/core/interleave.hpp>
#include <seqpar/kernel/flash/gradient_tile.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::flash_detail {

/// f(source, row of it, n, every, count): rows row, row + 1, ... of the source are keys begin + n, begin + n + every, ...;
/// for all of `count` keys of a union from `begin` on.
template <class F>
void for_each_part_of(const interleaved& keys, index_t begin, index_t count, const F& f) {
    for (const segment& s : keys.segments) {
        const index_t skip = s.to >= begin ? 0 : (begin - s.to + s.every - 1) / s.every, first = s.to + skip * s.every;
        if (skip < s.count && first < begin + count)
            f(s.source, s.from + skip, first - begin, s.every,
              std::min(s.count - skip, (begin + count - first + s.every - 1) / s.every));
    }
}

/// A union of blocks of keys cut into tiles of gradient_keys, within each run of the union: a function of the positions
/// only.
class key_tiles {
public:
    struct tile {
        run keys;      ///< their positions
        index_t begin; ///< of the first one in the union
    };

    explicit key_tiles(std::span<const positions> sources) : keys_(interleave(sources)) {
        index_t begin = 0;
        for (const run& r : keys_.rows.runs()) {
            for (index_t i = 0; i < r.count; i += gradient_keys)
                tiles_.push_back({run{r[i], r.stride, std::min(gradient_keys, r.count - i)}, begin + i});
            begin += r.count;
        }
    }

    [[nodiscard]] index_t count() const noexcept { return static_cast<index_t>(tiles_.size()); }
    [[nodiscard]] const tile& operator[](index_t n) const noexcept { return tiles_[static_cast<std::size_t>(n)]; }

    /// for_each_part_of the keys of a tile.
    template <class F>
    void for_each_part(const tile& t, const F& f) const {
        for_each_part_of(keys_, t.begin, t.keys.count, f);
    }

private:
    interleaved keys_;
    std::vector<tile> tiles_;
};

} // namespace seqpar::flash_detail
