#pragma once

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

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x) {
            const int size = comm_.size(), rank = comm_.rank();
            const index_t batch = x.q.shape().batch, dim = x.k.shape().dim, dim_v = x.v.shape().dim;
            const auto keys_of = [&](int r) -> const origin& {
                return where[static_cast<std::size_t>((r + size) % size)].keys;
            };

            std::size_t largest = 0;
            for (int r = 0; r < size; ++r)
                largest = std::max(largest, kv_parcel<T>::bytes(keys_of(r), batch, dim, dim_v));
            kv_parcel<T> here(largest, local.how.memory), arriving(largest, local.how.memory);
            here.shape(keys_of(rank), batch, dim, dim_v);
            here.fill(x.k, x.v);

            const block<const T> q{x.q, where[static_cast<std::size_t>(rank)].queries};
            partial<accumulator_t<T>> seen(x.out.shape(), local.how.memory);
            for (int step = 0; step < size; ++step) {
                request_t<C> travelling;
                if (step + 1 < size) {
                    arriving.shape(keys_of(rank - step - 1), batch, dim, dim_v);
                    travelling = comm_.exchange(here.out(), (rank + 1) % size, arriving.in(), (rank - 1 + size) % size);
                }
                const key_block<T> keys = here.block(); // of rank r - step
                local.fold(q, std::span(&keys, 1), seen, travelling);
                travelling.wait();
                std::swap(here, arriving);
            }
            seen.finish(x.out, x.lse);
        }

    private:
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
