#pragma once

#include <seqpar/core/element.hpp>
#include <seqpar/core/origin.hpp>
#include <seqpar/core/partial.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/kernel.hpp>
#include <seqpar/score/any_score.hpp>

namespace seqpar::tool {

/// The kernel `flash` on random inputs, one head of 128 that sees all, on the calling thread: to be timed.
template <class T>
class kernel_trial {
    using A = accumulator_t<T>;

public:
    static constexpr index_t head_dim = 128;

    explicit kernel_trial(index_t rows);

    /// O(rows^2): 4 head_dim flops for each query and key.
    void forward();
    /// 10 head_dim flops for each query and key. @pre forward()
    void backward();

    [[nodiscard]] double forward_flops() const noexcept { return 4 * flops_per_4(); }
    [[nodiscard]] double backward_flops() const noexcept { return 10 * flops_per_4(); }

private:
    [[nodiscard]] double flops_per_4() const noexcept {
        return static_cast<double>(head_dim) * static_cast<double>(rows_) * static_cast<double>(rows_);
    }

    index_t rows_;
    any_kernel kernel_;
    any_score score_;
    context how_;
    origin at_;
    tensor<T> q_, k_, v_, dout_;
    partial<A> result_;
    tensor<T> out_;
    tensor<A> lse_, delta_, dq_, dk_, dv_;
};

extern template class kernel_trial<float>;
extern template class kernel_trial<double>;
extern template class kernel_trial<bfloat16>;

} // namespace seqpar::tool
