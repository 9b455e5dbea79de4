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

/// A strategy chosen at run time, for communicators of type C: holds any model, and computes with any_kernel and any_score
/// on float, double and bfloat16. ulysses<any_strategy<C>> nests one that is chosen at run time.
template <communicator C>
class any_strategy {
    using local = local_attention<any_kernel, any_score>;

    using placements = std::span<const placement>;

    struct bound_interface {
        virtual ~bound_interface() = default;
        virtual void forward(const local&, placements, const operands<float>&) = 0;
        virtual void forward(const local&, placements, const operands<double>&) = 0;
        virtual void forward(const local&, placements, const operands<bfloat16>&) = 0;
    };

public:
    template <class S>
        requires(!std::is_same_v<S, any_strategy> && strategy_on<S, C>)
    any_strategy(S model)
        : self_(std::make_shared<holder<S>>(std::move(model))) {} // NOLINT: a strategy is an any_strategy

    class bound {
    public:
        template <element T>
        void forward(const local& how, std::span<const placement> where, const operands<T>& x) {
            self_->forward(how, where, x);
        }

    private:
        friend any_strategy;
        explicit bound(std::unique_ptr<bound_interface> self) : self_(std::move(self)) {}
        std::unique_ptr<bound_interface> self_;
    };

    [[nodiscard]] bound on(C& comm) const { return bound(self_->on(comm)); }
    void check(int size) const { self_->check(size); }
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const { return self_->predict(p, rank); }
    [[nodiscard]] std::string name() const { return self_->name(); }

private:
    struct interface {
        virtual ~interface() = default;
        virtual std::unique_ptr<bound_interface> on(C&) const = 0;
        virtual void check(int) const = 0;
        virtual plan::cost predict(const plan::problem&, int) const = 0;
        virtual std::string name() const = 0;
    };
    template <class B>
    struct bound_holder final : bound_interface {
        explicit bound_holder(B m) : model(std::move(m)) {}
        void forward(const local& how, placements where, const operands<float>& x) override {
            model.forward(how, where, x);
        }
        void forward(const local& how, placements where, const operands<double>& x) override {
            model.forward(how, where, x);
        }
        void forward(const local& how, placements where, const operands<bfloat16>& x) override {
            model.forward(how, where, x);
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
        std::string name() const override { return model.name(); }
        S model;
    };

    std::shared_ptr<const interface> self_;
};

} // namespace seqpar
