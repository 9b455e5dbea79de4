#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/score/alignment.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/text.hpp>

#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// Attention with linear biases: - slope_h * |p_q - p_k|, p_q the position of the query under its alignment.
/// (Press, Smith and Lewis 2021, arXiv:2108.12409; the alibi_slopes of FlashAttention, which aligns bottom-right.)
///
///     alibi{slopes}             one slope for each head
///     alibi::geometric(heads)   those of the paper: 2^(-8 i / heads), i = 1, 2, ...; for heads that are no power of two,
///                               those of the next lower one and every other of twice as many
///
/// Backward gives the gradients of the slopes. Copies share them.
class alibi : public full {
public:
    explicit alibi(std::vector<double> slopes, alignment align = {})
        : slopes_(std::make_shared<const std::vector<double>>(std::move(slopes))), align_(align) {}

    [[nodiscard]] static alibi geometric(index_t heads, alignment align = {}) {
        std::vector<double> slopes;
        index_t lower = 1;
        while (lower * 2 <= heads) lower *= 2;
        for (index_t i = 1; i <= lower; ++i)
            slopes.push_back(std::exp2(-8.0 * static_cast<double>(i) / static_cast<double>(lower)));
        for (index_t i = 1; lower + (i + 1) / 2 <= heads; i += 2)
            slopes.push_back(std::exp2(-4.0 * static_cast<double>(i) / static_cast<double>(lower)));
        slopes.resize(static_cast<std::size_t>(heads));
        return alibi(std::move(slopes), align);
    }

    [[nodiscard]] const std::vector<double>& values() const noexcept { return *slopes_; }

    void check() const {
        align_.check();
        for (std::size_t h = 0; h < slopes_->size(); ++h)
            if (!std::isfinite((*slopes_)[h]))
                throw refusal(detail::concat("ALiBi slope of head ", h, " is ", (*slopes_)[h], ": it must be finite"));
    }
    void check(const attention_shape& of) const {
        if (static_cast<index_t>(slopes_->size()) != of.heads)
            throw refusal(detail::concat("ALiBi has ", slopes_->size(), " slopes, and Q has ", of.heads,
                                         " heads: allowed is one for each head"));
    }
    [[nodiscard]] score_stages stages() const noexcept { return bit(score_stage::distance); }
    template <class A>
    void modify(score_stage, const score_row& row, std::span<A> x, std::span<A>) const {
        const A slope = static_cast<A>((*slopes_)[static_cast<std::size_t>(row.head)]);
        for (std::size_t j = 0; j < x.size(); ++j) x[j] -= slope * static_cast<A>(distance(row, j));
    }
    [[nodiscard]] index_t slopes() const noexcept { return static_cast<index_t>(slopes_->size()); }
    template <class A>
    [[nodiscard]] double slope_gradient(const score_row& row, std::span<const A> ds) const {
        double sum = 0;
        for (std::size_t j = 0; j < ds.size(); ++j)
            if (ds[j] != 0) sum -= static_cast<double>(ds[j]) * static_cast<double>(distance(row, j));
        return sum;
    }
    [[nodiscard]] std::string name() const {
        return detail::concat("alibi(", slopes_->size(), " slopes ", hash_text(*slopes_), ", ", align_.name(), ')');
    }

private:
    [[nodiscard]] index_t distance(const score_row& row, std::size_t j) const noexcept {
        const index_t by = row.query + align_.shift(row.n) - row.keys[static_cast<index_t>(j)];
        return by < 0 ? -by : by;
    }

    std::shared_ptr<const std::vector<double>> slopes_;
    alignment align_;
};
static_assert(score<alibi>);

} // namespace seqpar
