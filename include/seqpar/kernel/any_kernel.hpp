#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/score/any_score.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace seqpar {

/// A kernel chosen at run time: holds any model. Erased once per block, never per element. Takes any score, and float,
/// double and bfloat16.
class any_kernel {
public:
    template <class K>
        requires(!std::is_same_v<K, any_kernel> && kernel<K>)
    any_kernel(K model) : self_(std::make_shared<holder<K>>(std::move(model))) {} // NOLINT: a kernel is an any_kernel

    template <real_element T>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const any_score& s,
                 partial<accumulator_t<T>>& into) const {
        self_->forward(how, q, keys, s, into);
    }
    template <real_element T>
    [[nodiscard]] std::size_t workspace_bytes(const extents& q, const extents& v, std::span<const positions> keys,
                                              int workers) const {
        return self_->workspace_bytes(T{}, q, v, keys, workers);
    }
    /// Throws `refusal` where the model has no backward.
    template <real_element T>
    void backward(const context& how, const block<const T>& q, const row_gradients<T>& of,
                  std::span<const key_block<T>> keys, const any_score& s, const tensor_view<accumulator_t<T>>& dq,
                  std::span<const key_gradients<accumulator_t<T>>> dkv) const {
        self_->backward(how, q, of, keys, s, dq, dkv);
    }
    /// 0 where the model has no backward.
    template <real_element T>
    [[nodiscard]] std::size_t backward_workspace_bytes(const extents& q, const extents& v,
                                                       std::span<const positions> keys, int workers) const {
        return self_->backward_workspace_bytes(T{}, q, v, keys, workers);
    }
    void check() const { self_->check(); }
    [[nodiscard]] std::string name() const { return self_->name(); }

private:
    template <class T>
    using keys_of = std::span<const key_block<T>>;
    template <class A>
    using gradients_of = std::span<const key_gradients<A>>;
    using rows = std::span<const positions>;

    struct interface {
        virtual ~interface() = default;
        virtual void forward(const context&, const block<const float>&, keys_of<float>, const any_score&,
                             partial<float>&) const = 0;
        virtual void forward(const context&, const block<const double>&, keys_of<double>, const any_score&,
                             partial<double>&) const = 0;
        virtual void forward(const context&, const block<const bfloat16>&, keys_of<bfloat16>, const any_score&,
                             partial<float>&) const = 0;
        virtual std::size_t workspace_bytes(float, const extents& q, const extents& v, rows keys,
                                            int workers) const = 0;
        virtual std::size_t workspace_bytes(double, const extents& q, const extents& v, rows keys,
                                            int workers) const = 0;
        virtual std::size_t workspace_bytes(bfloat16, const extents& q, const extents& v, rows keys,
                                            int workers) const = 0;
        virtual void backward(const context&, const block<const float>&, const row_gradients<float>&, keys_of<float>,
                              const any_score&, const tensor_view<float>&, gradients_of<float>) const = 0;
        virtual void backward(const context&, const block<const double>&, const row_gradients<double>&, keys_of<double>,
                              const any_score&, const tensor_view<double>&, gradients_of<double>) const = 0;
        virtual void backward(const context&, const block<const bfloat16>&, const row_gradients<bfloat16>&,
                              keys_of<bfloat16>, const any_score&, const tensor_view<float>&,
                              gradients_of<float>) const = 0;
        virtual std::size_t backward_workspace_bytes(float, const extents& q, const extents& v, rows keys,
                                                     int workers) const = 0;
        virtual std::size_t backward_workspace_bytes(double, const extents& q, const extents& v, rows keys,
                                                     int workers) const = 0;
        virtual std::size_t backward_workspace_bytes(bfloat16, const extents& q, const extents& v, rows keys,
                                                     int workers) const = 0;
        virtual void check() const = 0;
        virtual std::string name() const = 0;
    };
    template <class K>
    struct holder final : interface {
        explicit holder(K m) : model(std::move(m)) {}
        void forward(const context& how, const block<const float>& q, keys_of<float> keys, const any_score& s,
                     partial<float>& into) const override {
            model.forward(how, q, keys, s, into);
        }
        void forward(const context& how, const block<const double>& q, keys_of<double> keys, const any_score& s,
                     partial<double>& into) const override {
            model.forward(how, q, keys, s, into);
        }
        void forward(const context& how, const block<const bfloat16>& q, keys_of<bfloat16> keys, const any_score& s,
                     partial<float>& into) const override {
            model.forward(how, q, keys, s, into);
        }
        std::size_t workspace_bytes(float, const extents& q, const extents& v, rows keys, int workers) const override {
            return model.template workspace_bytes<float>(q, v, keys, workers);
        }
        std::size_t workspace_bytes(double, const extents& q, const extents& v, rows keys, int workers) const override {
            return model.template workspace_bytes<double>(q, v, keys, workers);
        }
        std::size_t workspace_bytes(bfloat16, const extents& q, const extents& v, rows keys,
                                    int workers) const override {
            return model.template workspace_bytes<bfloat16>(q, v, keys, workers);
        }
        void backward(const context& how, const block<const float>& q, const row_gradients<float>& of,
                      keys_of<float> keys, const any_score& s, const tensor_view<float>& dq,
                      gradients_of<float> dkv) const override {
            add_gradients(how, q, of, keys, s, dq, dkv);
        }
        void backward(const context& how, const block<const double>& q, const row_gradients<double>& of,
                      keys_of<double> keys, const any_score& s, const tensor_view<double>& dq,
                      gradients_of<double> dkv) const override {
            add_gradients(how, q, of, keys, s, dq, dkv);
        }
        void backward(const context& how, const block<const bfloat16>& q, const row_gradients<bfloat16>& of,
                      keys_of<bfloat16> keys, const any_score& s, const tensor_view<float>& dq,
                      gradients_of<float> dkv) const override {
            add_gradients(how, q, of, keys, s, dq, dkv);
        }
        std::size_t backward_workspace_bytes(float, const extents& q, const extents& v, rows keys,
                                             int workers) const override {
            return backward_bytes<float>(q, v, keys, workers);
        }
        std::size_t backward_workspace_bytes(double, const extents& q, const extents& v, rows keys,
                                             int workers) const override {
            return backward_bytes<double>(q, v, keys, workers);
        }
        std::size_t backward_workspace_bytes(bfloat16, const extents& q, const extents& v, rows keys,
                                             int workers) const override {
            return backward_bytes<bfloat16>(q, v, keys, workers);
        }
        template <class T, class A>
        void add_gradients(const context& how, const block<const T>& q, const row_gradients<T>& of, keys_of<T> keys,
                           const any_score& s, const tensor_view<A>& dq, gradients_of<A> dkv) const {
            if constexpr (differentiable_kernel<K, T, any_score>)
                model.backward(how, q, of, keys, s, dq, dkv);
            else
                throw refusal(detail::concat("the kernel ", model.name(),
                                             " has no backward: allowed are kernels that "
                                             "have one; nearest is flash"));
        }
        template <class T>
        [[nodiscard]] std::size_t backward_bytes(const extents& q, const extents& v, rows keys, int workers) const {
            if constexpr (differentiable_kernel<K, T, any_score>)
                return model.template backward_workspace_bytes<T>(q, v, keys, workers);
            else
                return 0;
        }
        void check() const override {
            if constexpr (requires { model.check(); }) model.check();
        }
        std::string name() const override { return model.name(); }
        K model;
    };

    std::shared_ptr<const interface> self_;
};
static_assert(kernel<any_kernel> && kernel<any_kernel, double> && kernel<any_kernel, bfloat16>);

} // namespace seqpar
