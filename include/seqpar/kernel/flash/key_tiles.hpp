#pragma once

#include <seqpar/core/interleave.hpp>
#include <seqpar/kernel/flash/gradient_tile.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace seqpar::flash_detail {

/// f(source, row of it, n) for keys begin + n, 0 <= n < count, of a union.
template <class F>
void for_each_key_of(const interleaved& keys, index_t begin, index_t count, const F& f) {
    for (const segment& s : keys.segments) {
        const index_t skip = s.to >= begin ? 0 : (begin - s.to + s.every - 1) / s.every;
        for (index_t i = skip; i < s.count && s.to + i * s.every < begin + count; ++i)
            f(s.source, s.from + i, s.to + i * s.every - begin);
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

    /// f(source, row of it, key of the tile) for each key of a tile.
    template <class F>
    void for_each_key(const tile& t, const F& f) const {
        for_each_key_of(keys_, t.begin, t.keys.count, f);
    }

private:
    interleaved keys_;
    std::vector<tile> tiles_;
};

} // namespace seqpar::flash_detail
