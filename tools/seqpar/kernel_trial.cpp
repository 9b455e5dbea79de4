#include "kernel_trial.hpp"

#include "choices.hpp"

#include <seqpar/kernel/delta.hpp>
#include <seqpar/score/full.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <utility>

namespace seqpar::tool {
namespace {

template <class T>
void fill(tensor<T>& to, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::generate_n(to.data(), to.shape().count(), [&] { return static_cast<T>(normal(engine)); });
}

} // namespace

template <class T>
kernel_trial<T>::kernel_trial(index_t rows)
    : rows_(rows), kernel_(kernel_named("flash")), score_(full{}), at_{positions::whole(rows), {0, 1}},
      q_({1, rows, 1, head_dim}), k_(q_.shape()), v_(q_.shape()), dout_(q_.shape()), result_(q_.shape()),
      out_(q_.shape()), lse_({1, rows, 1, 1}), delta_(lse_.shape()), dq_(q_.shape()), dk_(q_.shape()), dv_(q_.shape()) {
    how_.scale = 1 / std::sqrt(static_cast<double>(head_dim));
    how_.n = {rows, rows};
    fill(q_, 1), fill(k_, 2), fill(v_, 3), fill(dout_, 4);
    forward();
    result_.finish(out_.view(), lse_.view());
    row_delta<T>(std::as_const(out_).view(), std::as_const(dout_).view(), {}, delta_.view());
}

template <class T>
void kernel_trial<T>::forward() {
    const block<const T> q{std::as_const(q_).view(), at_};
    const key_block<T> keys{std::as_const(k_).view(), std::as_const(v_).view(), at_};
    kernel_.forward<T>(how_, q, std::span(&keys, 1), score_, result_);
}

template <class T>
void kernel_trial<T>::backward() {
    const block<const T> q{std::as_const(q_).view(), at_};
    const key_block<T> keys{std::as_const(k_).view(), std::as_const(v_).view(), at_};
    const row_gradients<T> of{std::as_const(dout_).view(), std::as_const(lse_).view(), std::as_const(delta_).view()};
    const key_gradients<A> dkv{dk_.view(), dv_.view()};
    kernel_.backward<T>(how_, q, of, std::span(&keys, 1), score_, dq_.view(), std::span(&dkv, 1));
}

template class kernel_trial<float>;
template class kernel_trial<double>;
template class kernel_trial<bfloat16>;

} // namespace seqpar::tool
