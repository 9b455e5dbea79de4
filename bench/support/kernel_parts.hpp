/// @file
/// The parts of the forward kernel, each alone: what limits the whole, on the machine at hand.
#pragma once

#include "compiled_for.hpp"
#include "normal.hpp"

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/engine.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace bench {

/// A tile of rows and as many keys, all of them seen, as forward brings to the first cache from a second one that half of them
/// fill. float; head_dim `dim`, of k and of v. Scores are too small to raise a reference.
class packed_tile {
    using index_t = seqpar::index_t;

public:
    packed_tile(seqpar::instruction_set set, index_t dim)
        : code_(seqpar::flash_detail::engine_for<float>(set, true)), dim_(dim), panels_(count_panels(code_, dim)),
          tainted_(static_cast<std::size_t>(panels_)), first_(static_cast<std::size_t>(code_.tile_rows)),
          last_(first_.size(), keys()) {
        const float unit = 1 / std::sqrt(static_cast<float>(dim)); // of a score
        const auto row = [](index_t count) { return seqpar::extents{1, 1, 1, count}; };
        q_ = normal<float>(row(code_.tile_rows * dim), 1, unit);
        k_ = normal<float>(row(panels_ * code_.keys_of_panel(dim)), 2);
        v_ = normal<float>(row(panels_ * code_.values_of_panel(dim)), 3);
        weights_ = normal<float>(row(code_.weights), 4);
        acc_ = normal<float>(row(code_.tile_rows * dim), 5);
        sums_ = normal<float>(row(code_.tile_rows * code_.lanes), 6);
        reference_ = normal<float>(row(code_.tile_rows), 7);
    }

    [[nodiscard]] index_t keys() const noexcept { return panels_ * code_.panel_keys; }
    /// Floating-point operations of one product, two to a multiply-add.
    [[nodiscard]] double operations() const noexcept {
        return 2 * static_cast<double>(code_.tile_rows * keys()) * static_cast<double>(dim_);
    }

    [[nodiscard]] seqpar::flash_detail::tile<float> rows() {
        return {1,
                q_.data(),
                weights_.data(),
                acc_.data(),
                sums_.data(),
                reference_.data(),
                first_.data(),
                last_.data(),
                code_.tile_rows,
                dim_,
                dim_,
                dim_,
                nullptr};
    }
    [[nodiscard]] seqpar::flash_detail::stretch<float> stretch() const {
        return {k_.data(), v_.data(), code_.value_step(dim_), tainted_.data(), 0, 0, panels_, 0, panels_, 0, keys()};
    }
    /// Scores, softmax and weighted values, as the kernel does them.
    [[nodiscard]] timed_loop whole() {
        return {[this](long rounds) {
                    for (long n = 0; n < rounds; ++n) code_.fold(rows(), stretch());
                },
                2 * operations()};
    }

private:
    static index_t count_panels(const seqpar::flash_detail::engine<float>& code, index_t dim) {
        const std::size_t bytes =
            static_cast<std::size_t>(code.keys_of_panel(dim) + code.values_of_panel(dim)) * sizeof(float);
        const index_t block = seqpar::flash_detail::block_keys / code.panel_keys; // panels
        return std::max(static_cast<index_t>(seqpar::flash_detail::caches().second / 2 / bytes) / block * block, block);
    }

    seqpar::flash_detail::engine<float> code_;
    index_t dim_, panels_;
    std::vector<unsigned char> tainted_;
    std::vector<index_t> first_, last_;
    seqpar::tensor<float> q_, k_, v_, weights_, acc_, sums_, reference_;
};

/// What `compiled_for` takes of a product of the tile.
struct one_product {
    packed_tile* with;

    template <class S>
    [[nodiscard]] double amount() const noexcept {
        return with->operations();
    }
};

/// Scores of the tile, q k alone.
struct score_products : one_product {
    template <class S>
    [[gnu::always_inline]] inline void run(long rounds) const {
        using namespace seqpar::flash_detail;
        constexpr seqpar::index_t keys = S::panel_keys, panels = block_keys / keys;
        const tile<float> t = with->rows();
        const stretch<float> s = with->stretch();
        for (long n = 0; n < rounds; ++n)
            for (seqpar::index_t panel = s.begin; panel < s.end; ++panel)
                for (seqpar::index_t r = 0; r < t.rows; r += S::score_rows)
                    store_products<S>(t.q + r * t.q_columns, t.q_columns, 1, s.k + panel * keys * t.dim, t.dim,
                                      t.p + r * block_keys + panel % panels * keys, block_keys);
    }
};

/// Values of the tile's keys, weighted: p v alone.
struct value_products : one_product {
    template <class S>
    [[gnu::always_inline]] inline void run(long rounds) const {
        using namespace seqpar::flash_detail;
        const tile<float> t = with->rows();
        const stretch<float> s = with->stretch();
        for (long n = 0; n < rounds; ++n)
            for (seqpar::index_t key = s.first_key; key < s.last_key; key += block_keys)
                add_product<S, S::value_rows, S::value_vectors, block_keys, 1>(
                    t.p, s.v + key * s.v_step, s.v_step, seqpar::index_t{block_keys}, t.columns, t.acc, 0, t.rows);
    }
};

} // namespace bench
