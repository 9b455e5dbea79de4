// What every consumer builds: the umbrella header in two translation units, and an attention that is computed and verified.
#include <seqpar/seqpar.hpp>

#include <atomic>
#include <cstdio>

int version_seen_by_the_other();

int main() {
    using namespace seqpar;
    std::atomic<int> verified{0};
    threads::run(2, [&](thread_communicator world) {
        tensor<float> x({1, 30, 2, 8});
        for (index_t i = 0; i < x.shape().count(); ++i)
            x.data()[i] = static_cast<float>((i * 7 + world.rank() * 31) % 23 - 11) / 8;
        attention attend{world, ulysses<>{}, causal{}};
        verified += verify(attend, x, x, x).passed ? 1 : 0;
    });
    std::printf("seqpar %s: verified on %d ranks\n", version_string, verified.load());
    return verified == 2 && version_seen_by_the_other() == version_minor ? 0 : 1;
}
