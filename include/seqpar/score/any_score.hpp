#pragma once

#include <seqpar/score/both.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/parts.hpp>
#include <seqpar/score/score.hpp>

#include <memory>
#include <span>
#include <type_traits>
#include <utility>

namespace seqpar {

/// A score chosen at run time: holds any model. Kernels ask per tile and per row of a tile, never per element.
class any_score {
public:
    template <class S>
        requires(!std::is_same_v<S, any_score> && score<S>)
    any_score(S model) : self_(std::make_shared<holder<S>>(std::move(model))) {} // NOLINT: a score is an any_score

    [[nodiscard]] coverage cover(lengths n, position_range q, position_range k) const { return self_->cover(n, q, k); }
    [[nodiscard]] interval visible(lengths n, position i, const run& keys) const { return self_->visible(n, i, keys); }
    void check() const { self_->check(); }
    void check(const attention_shape& of) const { self_->check(of); }
    [[nodiscard]] std::string name() const { return self_->name(); }

    [[nodiscard]] score_stages stages() const { return self_->stages(); }
    /// @throws refusal where slope is asked of a score that has no derivative
    template <class E>
    void modify(score_stage stage, const score_row& row, std::span<E> x, std::span<E> slope) const {
        self_->modify(stage, row, x, slope);
    }
    [[nodiscard]] index_t sinks() const { return self_->sinks(); }
    [[nodiscard]] double logit(index_t head) const { return self_->logit(head); }
    [[nodiscard]] bool drops() const { return self_->drops(); }
    template <class E>
    void drop(const score_row& row, std::span<E> z) const {
        self_->drop(row, z);
    }
    [[nodiscard]] index_t slopes() const { return self_->slopes(); }
    template <class E>
    [[nodiscard]] double slope_gradient(const score_row& row, std::span<const E> ds) const {
        return self_->slope_gradient(row, ds);
    }
    /// Whether the score that it holds has no derivative.
    [[nodiscard]] bool lacks_derivative() const { return self_->lacks_derivative(); }

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
        virtual void check(const attention_shape& of) const = 0;
        virtual score_stages stages() const = 0;
        virtual void modify(score_stage, const score_row&, std::span<float> x, std::span<float> slope) const = 0;
        virtual void modify(score_stage, const score_row&, std::span<double> x, std::span<double> slope) const = 0;
        virtual index_t sinks() const = 0;
        virtual double logit(index_t head) const = 0;
        virtual bool drops() const = 0;
        virtual void drop(const score_row&, std::span<float> z) const = 0;
        virtual void drop(const score_row&, std::span<double> z) const = 0;
        virtual index_t slopes() const = 0;
        virtual double slope_gradient(const score_row&, std::span<const float> ds) const = 0;
        virtual double slope_gradient(const score_row&, std::span<const double> ds) const = 0;
        virtual bool lacks_derivative() const = 0;
        virtual bool is_frame() const = 0;
        virtual any_score and_inside(const any_score& other, bool after) const = 0;
        virtual std::string name() const = 0;
    };
    template <class S>
    struct holder final : interface {
        explicit holder(S m) : model(std::move(m)) {}
        coverage cover(lengths n, position_range q, position_range k) const override { return model.cover(n, q, k); }
        interval visible(lengths n, position i, const run& keys) const override { return model.visible(n, i, keys); }
        void check() const override { check_score(model); }
        void check(const attention_shape& of) const override { check_score(model, of); }
        score_stages stages() const override { return stages_of(model); }
        void modify(score_stage stage, const score_row& row, std::span<float> x,
                    std::span<float> slope) const override {
            modify_model(stage, row, x, slope);
        }
        void modify(score_stage stage, const score_row& row, std::span<double> x,
                    std::span<double> slope) const override {
            modify_model(stage, row, x, slope);
        }
        template <class E>
        void modify_model(score_stage stage, const score_row& row, std::span<E> x, std::span<E> slope) const {
            if (lacks_derivative() && !slope.empty())
                throw refusal(model.name() + " has no derivative: backward needs one");
            seqpar::modify(model, stage, row, x, slope);
        }
        index_t sinks() const override { return sinks_of(model); }
        double logit(index_t head) const override { return logit_of(model, head); }
        bool drops() const override { return seqpar::drops(model); }
        void drop(const score_row& row, std::span<float> z) const override { seqpar::drop(model, row, z); }
        void drop(const score_row& row, std::span<double> z) const override { seqpar::drop(model, row, z); }
        index_t slopes() const override { return slopes_of(model); }
        double slope_gradient(const score_row& row, std::span<const float> ds) const override {
            return seqpar::slope_gradient(model, row, ds);
        }
        double slope_gradient(const score_row& row, std::span<const double> ds) const override {
            return seqpar::slope_gradient(model, row, ds);
        }
        bool lacks_derivative() const override { return seqpar::lacks_derivative(model); }
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
