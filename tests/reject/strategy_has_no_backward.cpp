// MUST NOT COMPILE: this strategy has no backward: choose serial, ulysses, all_gather, ring, tree or grid
#include <seqpar/seqpar.hpp>

/// A strategy of one's own that can run forward only.
struct forward_only {
    struct bound {
        template <class T, class Local>
        void forward(const Local& local, std::span<const seqpar::placement> where, const seqpar::operands<T>& x) {
            seqpar::serial::bound<seqpar::self_communicator>{}.forward<T>(local, where, x);
        }
    };
    [[nodiscard]] bound on(seqpar::self_communicator&) const { return {}; }
    void check(int) const {}
    [[nodiscard]] seqpar::plan::cost predict(const seqpar::plan::problem& p, int rank) const {
        return seqpar::plan::serial_cost(p, rank);
    }
    [[nodiscard]] std::string name() const { return "forward-only"; }
};

int main() {
    const seqpar::tensor<float> q({1, 4, 2, 8});
    seqpar::attention attend{forward_only{}};
    const auto fwd = attend.forward(q, q, q);
    auto result = attend.backward(fwd.out, fwd);
}
