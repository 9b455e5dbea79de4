#pragma once

#include <seqpar/plan/serial_cost.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <string>

namespace seqpar {

/// One rank holds the whole sequence: one block, folded once. What every other strategy is compared with.
struct serial {
    template <communicator C>
    class bound {
    public:
        template <element T>
        struct saved {}; // nothing is moved

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x, saved<T>* = nullptr) {
            partial<accumulator_t<T>> seen(x.out.shape(), local.how.memory);
            const key_block<T> keys{x.k, x.v, where[0].keys};
            nothing travelling;
            local.fold(block<const T>{x.q, where[0].queries}, std::span(&keys, 1), seen, travelling);
            local.template finish<T>(seen, where[0].queries, x);
        }

        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>&) {
            const key_block<T> keys{x.k, x.v, where[0].keys};
            const key_gradients<accumulator_t<T>> dkv{g.dk, g.dv};
            nothing travelling;
            local.fold_back(block<const T>{x.q, where[0].queries}, g.rows, std::span(&keys, 1), g.dq,
                            std::span(&dkv, 1), travelling);
        }
    };

    template <communicator C>
    [[nodiscard]] bound<C> on(C& comm) const {
        check(comm.size());
        return {};
    }
    void check(int size) const {
        if (size != 1)
            throw refusal(detail::concat("serial attention holds the whole sequence on 1 rank, and there are ", size,
                                         ": choose ulysses, all-gather or ring"));
    }
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const { return plan::serial_cost(p, rank); }
    [[nodiscard]] plan::cost predict_backward(const plan::problem& p, int rank) const {
        return plan::serial_backward_cost(p, rank);
    }
    [[nodiscard]] std::string name() const { return "serial"; }
};
static_assert(strategy<serial>);

} // namespace seqpar
