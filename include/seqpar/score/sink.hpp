#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/text.hpp>

#include <cmath>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// Attention sinks: a learned logit for each head that joins the softmax of every row, with a value row of zeros. It is not
/// scaled, capped or masked, and it is counted once a row, whatever the strategy. A row that sees no key has lse = its sink.
/// (gpt-oss, arXiv:2508.10925; Xiao et al. 2023, arXiv:2309.17453. -inf is no sink.)
///
/// Backward gives the gradients of the logits. Copies share them.
class sink : public full {
public:
    explicit sink(std::vector<double> logits)
        : logits_(std::make_shared<const std::vector<double>>(std::move(logits))) {}

    [[nodiscard]] const std::vector<double>& values() const noexcept { return *logits_; }

    void check() const {
        for (std::size_t h = 0; h < logits_->size(); ++h)
            if (std::isnan((*logits_)[h]) || (*logits_)[h] == HUGE_VAL)
                throw refusal(detail::concat("sink of head ", h, " is ", (*logits_)[h],
                                             ": allowed are finite logits, or -inf for none"));
    }
    void check(const attention_shape& of) const {
        if (sinks() != of.heads)
            throw refusal(detail::concat("there are ", sinks(), " sinks, and Q has ", of.heads,
                                         " heads: allowed is one for each head"));
    }
    [[nodiscard]] index_t sinks() const noexcept { return static_cast<index_t>(logits_->size()); }
    /// The logit of a head.
    [[nodiscard]] double logit(index_t head) const { return (*logits_)[static_cast<std::size_t>(head)]; }
    [[nodiscard]] std::string name() const {
        return detail::concat("sink(", logits_->size(), " logits ", hash_text(*logits_), ')');
    }

private:
    std::shared_ptr<const std::vector<double>> logits_;
};
static_assert(score<sink>);

} // namespace seqpar
