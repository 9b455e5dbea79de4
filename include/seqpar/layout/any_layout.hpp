#pragma once

#include <seqpar/layout/layout.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace seqpar {

/// A layout chosen at run time: holds any model. Called once per rank and attention, so its indirection costs nothing.
class any_layout {
public:
    template <class L>
        requires(!std::is_same_v<L, any_layout> && layout<L>)
    any_layout(L model) : self_(std::make_shared<holder<L>>(std::move(model))) {} // NOLINT: a layout is an any_layout

    [[nodiscard]] seqpar::positions positions(int rank, int size, index_t n) const {
        return self_->positions(rank, size, n);
    }
    [[nodiscard]] std::string name() const { return self_->name(); }

private:
    struct interface {
        virtual ~interface() = default;
        virtual seqpar::positions positions(int rank, int size, index_t n) const = 0;
        virtual std::string name() const = 0;
    };
    template <class L>
    struct holder final : interface {
        explicit holder(L m) : model(std::move(m)) {}
        seqpar::positions positions(int rank, int size, index_t n) const override {
            return model.positions(rank, size, n);
        }
        std::string name() const override { return model.name(); }
        L model;
    };

    std::shared_ptr<const interface> self_;
};
static_assert(layout<any_layout>);

} // namespace seqpar
