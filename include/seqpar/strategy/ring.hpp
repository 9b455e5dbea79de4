#pragma once

#include <seqpar/comm/outstanding.hpp>
#include <seqpar/plan/ring_cost.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace seqpar {

/// K, V travel once around the ranks. At step s rank r computes with the block of rank r - s, while the block of r - s - 1
/// arrives: the exchange is posted before the kernel runs and waited for after it.
/// (Liu, Zaharia and Abbeel 2023, Ring Attention, arXiv:2310.01889.)
///
/// A rank sends 2 n k (P - 1) elements in P - 1 messages and rounds, and holds two blocks of K, V: 4 n k.
/// n = N / P rows, k = kv_heads * head_dim.
struct ring {
    template <communicator C>
    class bound {
    public:
        explicit bound(C comm) : comm_(std::move(comm)) {}

        template <element T>
        struct saved {}; // the ring keeps nothing: K, V travel again

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x, saved<T>* = nullptr) {
            const int size = comm_.size(), rank = comm_.rank();
            const auto memory = local.how.memory;
            const keys_of<T> keys{where, x};
            kv_parcel<T> here(keys.largest(), memory), arriving(keys.largest(), memory);
            keys.shape(here, rank);
            here.fill(x.k, x.v);

            const block<const T> q{x.q, where[static_cast<std::size_t>(rank)].queries};
            partial<accumulator_t<T>> seen(x.out.shape(), memory);
            for (int step = 0; step < size; ++step) {
                request_t<C> travelling;
                if (step + 1 < size) {
                    keys.shape(arriving, rank - step - 1);
                    travelling = pass_on(here, arriving);
                }
                const key_block<T> block = here.block(); // of rank r - step
                local.fold(q, std::span(&block, 1), seen, travelling);
                travelling.wait();
                std::swap(here, arriving);
            }
            local.template finish<T>(seen, q.at, x);
        }

        /// K, V travel as in forward. The gradients of a block start at the rank after its owner's, follow it a step behind,
        /// and come home after the last step; each rank adds its part. The owner's own part never leaves.
        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>&) {
            using A = accumulator_t<T>;
            const int size = comm_.size(), rank = comm_.rank();
            const auto memory = local.how.memory;
            const keys_of<T> keys{where, x};
            kv_parcel<T> here(keys.largest(), memory), arriving(keys.largest(), memory);
            keys.shape(here, rank);
            here.fill(x.k, x.v);
            const std::size_t room = size == 1 ? 0 : keys.template largest<A>();
            kv_parcel<A> mine(room, memory), sent(room, memory), arrived(room, memory); // gradients of one block

            const block<const T> q{x.q, where[static_cast<std::size_t>(rank)].queries};
            for (int step = 0; step < size; ++step) {
                outstanding<C> travelling;
                if (step + 1 < size) {
                    keys.shape(arriving, rank - step - 1);
                    travelling.add(pass_on(here, arriving));
                }
                if (step >= 2) {
                    keys.shape(arrived, rank - step);
                    travelling.add(pass_on(sent, arrived));
                }
                key_gradients<A> dkv{g.dk, g.dv};
                if (step > 0) {
                    keys.shape(mine, rank - step);
                    mine.clear();
                    dkv = {mine.k(), mine.v()};
                }
                const key_block<T> block = here.block(); // of rank r - step
                local.fold_back(q, g.rows, std::span(&block, 1), g.dq, std::span(&dkv, 1), travelling);
                travelling.wait();
                if (step >= 2) mine.add(arrived);
                std::swap(here, arriving);
                std::swap(sent, mine);
            }
            if (size > 1) {
                keys.shape(arrived, rank);
                pass_on(sent, arrived).wait();
                accumulate(arrived.k(), g.dk);
                accumulate(arrived.v(), g.dv);
            }
        }

    private:
        /// The shapes of everyone's keys.
        template <element T>
        struct keys_of {
            std::span<const placement> where;
            const operands<T>& x;

            [[nodiscard]] const origin& of(int rank) const {
                const int size = static_cast<int>(where.size());
                return where[static_cast<std::size_t>((rank + size) % size)].keys;
            }
            template <element E>
            void shape(kv_parcel<E>& parcel, int rank) const {
                parcel.shape(of(rank), x.k.shape().batch, x.k.shape().dim, x.v.shape().dim);
            }
            /// Bytes of the largest block of K, V in elements of E.
            template <element E = T>
            [[nodiscard]] std::size_t largest() const {
                std::size_t most = 0;
                for (const placement& p : where)
                    most = std::max(most,
                                    kv_parcel<E>::bytes(p.keys, x.k.shape().batch, x.k.shape().dim, x.v.shape().dim));
                return most;
            }
        };

        /// To the next rank, from the one before.
        template <element E>
        [[nodiscard]] request_t<C> pass_on(const kv_parcel<E>& out, kv_parcel<E>& in) {
            const int size = comm_.size(), rank = comm_.rank();
            return comm_.exchange(out.out(), (rank + 1) % size, in.in(), (rank - 1 + size) % size);
        }

        C comm_;
    };

    template <communicator C>
    [[nodiscard]] bound<C> on(C& comm) const {
        return bound<C>(comm);
    }
    void check(int) const {}
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const { return plan::ring_cost(p, rank); }
    [[nodiscard]] std::string name() const { return "ring"; }
};
static_assert(strategy<ring>);

} // namespace seqpar
