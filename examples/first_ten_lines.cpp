// Four ranks, threads of this process, compute one causal attention over 1,000 tokens, and check it.
#include <seqpar/seqpar.hpp>

#include <iostream>
#include <random>

int main() {
    using namespace seqpar;
    bool verified = false;
    threads::run(4, [&](thread_communicator world) {
        attention attend{world, ulysses<ring>{2, {}}, zigzag{}, causal{}};

        const index_t rows = zigzag{}.positions(world.rank(), world.size(), 1000).size();
        tensor<float> q({1, rows, 8, 64}), k({1, rows, 2, 64}), v({1, rows, 2, 64}); // [batch, seq, heads, head_dim]
        std::mt19937 random(static_cast<unsigned>(world.rank()));
        std::normal_distribution<float> normal;
        for (tensor<float>* x : {&q, &k, &v})
            std::generate_n(x->data(), x->shape().count(), [&] { return normal(random); });

        const auto fwd = attend.forward(q, k, v);         // {out, lse, saved}: this rank's rows
        const auto grads = attend.backward(fwd.out, fwd); // {dq, dk, dv}: of the loss sum(out^2) / 2
        const report r = verify(attend, q, k, v);         // against serial, and against the definition in double
        if (world.rank() == 0) {
            std::cout << attend.name() << ": " << r.text() << '\n';
            verified = r.passed;
        }
    });
    return verified ? 0 : 1;
}
