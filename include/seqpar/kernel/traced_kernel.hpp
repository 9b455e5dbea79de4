#pragma once

#include <seqpar/core/timeline.hpp>
#include <seqpar/kernel/kernel.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace seqpar {

/// A kernel that holds one and writes down when it computes; into a null timeline, nothing. Results, scratch and name are those of the inner one; a
/// backward, a check() and the element types and scores are where that has them. Copies write into the same timeline.
template <class K>
class traced_kernel {
public:
    template <class T>
    using element = kernel_element_t<K, T>;

    traced_kernel(K inner, std::shared_ptr<timeline> into) : inner_(std::move(inner)), into_(std::move(into)) {}

    template <real_element T, class S>
        requires(kernel<K, T, S>)
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        const auto begin = now();
        inner_.forward(how, q, keys, s, into);
        write("forward", begin, q.view.shape(), keys);
    }
    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                              int workers) const {
        return inner_.template workspace_bytes<T>(q, v, keys, workers);
    }

    template <real_element T, class S>
        requires(differentiable_kernel<K, T, S>)
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& of,
                  std::span<const key_block<T>> keys, const S& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        const auto begin = now();
        inner_.backward(how, q, of, keys, s, dq, dkv);
        write("backward", begin, q.view.shape(), keys);
    }
    template <real_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents& q, const extents& v,
                                                       std::span<const positions> keys, int workers) const
        requires(requires { std::declval<const K&>().template backward_workspace_bytes<T>(q, v, keys, workers); }) {
        return inner_.template backward_workspace_bytes<T>(q, v, keys, workers);
    }

    void check() const requires(requires(const K& k) { k.check(); }) { inner_.check(); }
    [[nodiscard]] std::string name() const { return inner_.name(); }

private:
    [[nodiscard]] timeline::clock::time_point now() const {
        return into_ ? into_->now() : timeline::clock::time_point{};
    }
    template <class T>
    void write(const char* name, timeline::clock::time_point begin, const extents& q,
               std::span<const key_block<T>> keys) const {
        const auto end = now();
        timeline::tile computed{q.batch, q.seq, 0, q.heads};
        for (const key_block<T>& block : keys) computed.keys += block.k.shape().seq;
        if (into_) into_->add({timeline::category::kernel, name, begin, end, {}, computed});
    }

    K inner_;
    std::shared_ptr<timeline> into_;
};

} // namespace seqpar
