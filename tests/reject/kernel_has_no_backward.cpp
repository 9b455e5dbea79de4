// MUST NOT COMPILE: this kernel has no backward: choose flash or reference
#include <seqpar/kernel/reference.hpp>
#include <seqpar/seqpar.hpp>

using namespace seqpar;

struct halfway {
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        reference{}.forward(how, q, keys, s, into);
    }
    template <real_element T>
    std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                int workers) const {
        return reference{}.workspace_bytes<T>(q, v, keys, workers);
    }
    std::string name() const { return "halfway"; }
};

int main() {
    const tensor<float> q({1, 4, 2, 8});
    attention attend{halfway{}};
    const auto fwd = attend.forward(q, q, q);
    auto result = attend.backward(fwd.out, fwd);
}
