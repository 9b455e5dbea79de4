#pragma once

#include <seqpar/score/both.hpp>
#include <seqpar/score/full.hpp>
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
    void check(lengths n) const { self_->check(n); }
    [[nodiscard]] std::string name() const { return self_->name(); }

    /// Whether it holds a frame (documents), inside which goes what it is composed with.
    [[nodiscard]] bool is_frame() const { return self_->is_frame(); }

    /// As for other scores. Two frames are refused when the result is checked.
    friend any_score operator&(const any_score& a, const any_score& b) {
        if (a.is_frame()) return a.self_->and_inside(b, true);
        if (b.is_frame()) return b.self_->and_inside(a, false);
        return both<any_score, any_score>(a, b);
    }
    template <score B>
        requires(!std::is_same_v<B, any_score>)
    friend any_score operator&(const any_score& a, B b) { return a & any_score(std::move(b)); }
    template <score A>
        requires(!std::is_same_v<A, any_score>)
    friend any_score operator&(A a, const any_score& b) { return any_score(std::move(a)) & b; }

private:
    struct interface {
        virtual ~interface() = default;
        virtual coverage cover(lengths n, position_range q, position_range k) const = 0;
        virtual interval visible(lengths n, position i, const run& keys) const = 0;
        virtual void check() const = 0;
        virtual void check(lengths n) const = 0;
        virtual bool is_frame() const = 0;
        virtual any_score and_inside(const any_score& other, bool after) const = 0;
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
        void check(lengths n) const override {
            if constexpr (requires { model.check(n); }) model.check(n);
        }
        bool is_frame() const override { return frame_score<S>; }
        any_score and_inside([[maybe_unused]] const any_score& other, [[maybe_unused]] bool after) const override {
            if constexpr (frame_score<S>) {
                if constexpr (std::is_same_v<std::remove_cvref_t<decltype(model.inner())>, full>) {
                    return model.around(other);
                } else {
                    // Erased inside too, so that composing on and on does not make types without end.
                    const any_score inner(model.inner());
                    return model.around(after ? inner & other : other & inner);
                }
            } else {
                return other;
            }
        }
        std::string name() const override { return model.name(); }
        S model;
    };

    std::shared_ptr<const interface> self_;
};
static_assert(score<any_score>);

} // namespace seqpar
