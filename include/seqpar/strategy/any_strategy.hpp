#pragma once

#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace seqpar {

/// A strategy chosen at run time, for communicators of type C: holds any model, and computes with any_kernel (or one Kernel)
/// and any_score on float, double and bfloat16. ulysses<any_strategy<C>> nests one that is chosen at run time.
template <communicator C, class Kernel = any_kernel>
class any_strategy {
    using local = local_attention<Kernel, any_score>;
    using f32 = kernel_element_t<Kernel, float>;
    using f64 = kernel_element_t<Kernel, double>;
    using bf16 = kernel_element_t<Kernel, bfloat16>;

    using placements = std::span<const placement>;

    using kept = std::shared_ptr<const void>; ///< what a model keeps, null: nothing

    struct bound_interface {
        virtual ~bound_interface() = default;
        virtual void forward(const local&, placements, const operands<f32>&, kept*) = 0;
        virtual void forward(const local&, placements, const operands<f64>&, kept*) = 0;
        virtual void forward(const local&, placements, const operands<bf16>&, kept*) = 0;
        virtual void backward(const local&, placements, const operands<f32>&, const gradients<f32>&, const kept&) = 0;
        virtual void backward(const local&, placements, const operands<f64>&, const gradients<f64>&, const kept&) = 0;
        virtual void backward(const local&, placements, const operands<bf16>&, const gradients<bf16>&, const kept&) = 0;
    };

public:
    template <class S>
        requires(!std::is_same_v<S, any_strategy> && strategy_on<S, C>)
    any_strategy(S model)
        : self_(std::make_shared<holder<S>>(std::move(model))) {} // NOLINT: a strategy is an any_strategy

    class bound {
    public:
        template <element T>
        struct saved {
            kept state;
        };

        template <element T>
        void forward(const local& how, std::span<const placement> where, const operands<T>& x,
                     saved<T>* keep = nullptr) {
            self_->forward(how, where, x, keep != nullptr ? &keep->state : nullptr);
        }
        template <element T>
        void backward(const local& how, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>& state) {
            self_->backward(how, where, x, g, state.state);
        }

    private:
        friend any_strategy;
        explicit bound(std::unique_ptr<bound_interface> self) : self_(std::move(self)) {}
        std::unique_ptr<bound_interface> self_;
    };

    [[nodiscard]] bound on(C& comm) const { return bound(self_->on(comm)); }
    void check(int size) const { self_->check(size); }
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const { return self_->predict(p, rank); }
    /// Throws `refusal` where the model has no backward.
    [[nodiscard]] plan::cost predict_backward(const plan::problem& p, int rank) const {
        return self_->predict_backward(p, rank);
    }
    [[nodiscard]] std::string name() const { return self_->name(); }

private:
    struct interface {
        virtual ~interface() = default;
        virtual std::unique_ptr<bound_interface> on(C&) const = 0;
        virtual void check(int) const = 0;
        virtual plan::cost predict(const plan::problem&, int) const = 0;
        virtual plan::cost predict_backward(const plan::problem&, int) const = 0;
        virtual std::string name() const = 0;
    };
    template <class B>
    struct bound_holder final : bound_interface {
        explicit bound_holder(B m) : model(std::move(m)) {}
        void forward(const local& how, placements where, const operands<f32>& x, kept* keep) override {
            run_forward(how, where, x, keep);
        }
        void forward(const local& how, placements where, const operands<f64>& x, kept* keep) override {
            run_forward(how, where, x, keep);
        }
        void forward(const local& how, placements where, const operands<bf16>& x, kept* keep) override {
            run_forward(how, where, x, keep);
        }
        void backward(const local& how, placements where, const operands<f32>& x, const gradients<f32>& g,
                      const kept& state) override {
            run_backward(how, where, x, g, state);
        }
        void backward(const local& how, placements where, const operands<f64>& x, const gradients<f64>& g,
                      const kept& state) override {
            run_backward(how, where, x, g, state);
        }
        void backward(const local& how, placements where, const operands<bf16>& x, const gradients<bf16>& g,
                      const kept& state) override {
            run_backward(how, where, x, g, state);
        }

        template <class T>
        void run_forward(const local& how, placements where, const operands<T>& x, kept* keep) {
            if (keep == nullptr) return model.template forward<T>(how, where, x);
            auto state = std::make_shared<typename B::template saved<T>>();
            model.template forward<T>(how, where, x, state.get());
            *keep = std::move(state);
        }
        template <class T>
        void run_backward(const local& how, placements where, const operands<T>& x, const gradients<T>& g,
                          const kept& state) {
            using saved = typename B::template saved<T>;
            if constexpr (differentiable<B, T, local>) {
                if (state != nullptr)
                    model.template backward<T>(how, where, x, g, *static_cast<const saved*>(state.get()));
                else
                    model.template backward<T>(how, where, x, g, saved{});
            } else {
                throw refusal("this strategy has no backward");
            }
        }

        B model;
    };

    template <class S>
    struct holder final : interface {
        explicit holder(S m) : model(std::move(m)) {}
        std::unique_ptr<bound_interface> on(C& comm) const override {
            return std::make_unique<bound_holder<decltype(model.on(comm))>>(model.on(comm));
        }
        void check(int size) const override { model.check(size); }
        plan::cost predict(const plan::problem& p, int rank) const override { return model.predict(p, rank); }
        plan::cost predict_backward(const plan::problem& p, int rank) const override {
            if constexpr (requires { model.predict_backward(p, rank); })
                return model.predict_backward(p, rank);
            else
                throw refusal(model.name() + " has no backward");
        }
        std::string name() const override { return model.name(); }
        S model;
    };

    std::shared_ptr<const interface> self_;
};

} // namespace seqpar
