#pragma once

#include <seqpar/score/score.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace seqpar {

/// A score chosen at run time: holds any model. Kernels ask per tile and per row of a partial tile, never per element.
class any_score {
public:
    template <class S>
        requires(!std::is_same_v<S, any_score> && score<S>)
    any_score(S model) : self_(std::make_shared<holder<S>>(std::move(model))) {} // NOLINT: a score is an any_score

    [[nodiscard]] coverage cover(lengths n, position_range q, position_range k) const { return self_->cover(n, q, k); }
    [[nodiscard]] interval visible(lengths n, position i, const run& keys) const { return self_->visible(n, i, keys); }
    void check() const { self_->check(); }
    [[nodiscard]] std::string name() const { return self_->name(); }

private:
    struct interface {
        virtual ~interface() = default;
        virtual coverage cover(lengths n, position_range q, position_range k) const = 0;
        virtual interval visible(lengths n, position i, const run& keys) const = 0;
        virtual void check() const = 0;
        virtual std::string name() const = 0;
    };
    template <class S>
    struct holder final : interface {
        explicit holder(S m) : model(std::move(m)) {}
        coverage cover(lengths n, position_range q, position_range k) const override { return model.cover(n, q, k); }
        interval visible(lengths n, position i, const run& keys) const override { return model.visible(n, i, keys); }
        void check() const override {
            if constexpr (requires { model.check(); }) model.check();
        }
        std::string name() const override { return model.name(); }
        S model;
    };

    std::shared_ptr<const interface> self_;
};
static_assert(score<any_score>);

} // namespace seqpar
