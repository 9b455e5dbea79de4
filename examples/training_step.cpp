/// Training over four ranks: packed documents of uneven length, rotary positions, a causal sliding window with a soft cap,
/// grouped queries. q, k and v are fitted to a target by gradient descent; the loss must fall.
#include <seqpar/kernel/rope.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/softcap.hpp>
#include <seqpar/seqpar.hpp>

#include <cstdio>
#include <mutex>
#include <random>

using namespace seqpar;

namespace {

constexpr index_t tokens = 203, heads = 4, kv_heads = 2, dim = 16;
constexpr int ranks = 4, steps = 10;

[[nodiscard]] tensor<float> normal(const extents& shape, int seed) {
    tensor<float> x(shape);
    std::mt19937 bits(static_cast<unsigned>(seed));
    std::normal_distribution<float> draw;
    for (index_t n = 0; n < shape.count(); ++n) x.data()[n] = draw(bits);
    return x;
}

/// x -= rate * gradient
void descend(tensor<float>& x, const tensor<float>& gradient, float rate) {
    for (index_t n = 0; n < x.shape().count(); ++n) x.data()[n] -= rate * gradient.data()[n];
}

} // namespace

int main() {
    double first = 0, last = 0;
    std::mutex mutex;
    threads::run(ranks, [&](thread_communicator world) {
        const auto score = documents<>({0, 17, 90, 91, tokens}) & causal{} & sliding_window{40, 0} & softcap{20};
        attention attend{world, ring{}, zigzag{}, score};

        const origin here{zigzag{}.positions(world.rank(), ranks, tokens), {0, heads}};
        const index_t rows = here.rows.size();
        tensor<float> q = normal({1, rows, heads, dim}, 1 + world.rank()),
                      k = normal({1, rows, kv_heads, dim}, 10 + world.rank()),
                      v = normal({1, rows, kv_heads, dim}, 20 + world.rank());
        const tensor<float> target = normal({1, rows, heads, dim}, 30 + world.rank());

        for (int step = 0; step < steps; ++step) {
            tensor<float> turned_q(q.shape()), turned_k(k.shape()), dout(target.shape());
            rope{}.apply(block<const float>{q.view(), here}, turned_q.view()); // each rank turns its own rows
            rope{}.apply(block<const float>{k.view(), here}, turned_k.view());

            const auto fwd = attend.forward(turned_q, turned_k, v);
            double loss = 0; // the sum over ranks of |out - target|^2 / 2, so dout = out - target
            for (index_t n = 0; n < dout.shape().count(); ++n) {
                dout.data()[n] = fwd.out.data()[n] - target.data()[n];
                loss += 0.5 * static_cast<double>(dout.data()[n]) * static_cast<double>(dout.data()[n]);
            }
            auto [dq, dk, dv] = attend.backward(dout, fwd);
            rope{}.invert(block<float>{dq.view(), here}); // the gradient of a rotation turns back
            rope{}.invert(block<float>{dk.view(), here});
            descend(q, dq, 0.3F), descend(k, dk, 0.3F), descend(v, dv, 0.3F);

            const std::lock_guard lock(mutex);
            if (step == 0) first += loss;
            if (step == steps - 1) last += loss;
        }
    });
    std::printf("loss before %.1f, after %d steps %.1f\n", first, steps - 1, last);
    return last < 0.8 * first ? 0 : 1;
}
