#pragma once

#include "problem.hpp"
#include "work.hpp"

#include <seqpar/core/executor.hpp>
#include <seqpar/kernel/delta.hpp>
#include <seqpar/kernel/flash.hpp>

#include <algorithm>
#include <chrono>
#include <limits>
#include <span>
#include <string>
#include <utility>

namespace bench {

/// The kernel `flash` on the whole sequence, on threads of one pool. A repetition begins with inputs as a user has them and
/// ends with finished outputs: forward and decode with out, backward with dq, dk and dv, its row_delta included.
template <class T>
class kernel_work final : public work {
    using A = seqpar::accumulator_t<T>;

public:
    explicit kernel_work(const request& r)
        : backward_(r.backward()), in_(r), score_(score_of(r)), pool_(r.threads), rows_(whole(r.tokens, r.heads)),
          key_rows_(whole(r.keys, r.kv_heads)), // which the blocks refer to
          queries_{in_.q.view(), rows_}, keys_{in_.k.view(), in_.v.view(), key_rows_}, result_(in_.q.shape()),
          out_(in_.q.shape()) {
        using namespace seqpar;
        how_.scale = scale_of(r);
        how_.n = {r.tokens, r.keys};
        how_.group = r.heads / r.kv_heads;
        how_.executor = pool_;
        if (!backward_) return;
        const extents q = in_.q.shape(), per_row{1, q.seq, q.heads, 1};
        lse_ = tensor<A>(per_row), delta_ = tensor<A>(per_row);
        dq_ = tensor<A>(q), dk_ = tensor<A>(in_.k.shape()), dv_ = tensor<A>(in_.v.shape());
        forward();
    }

    [[nodiscard]] double run(int times) override {
        const auto start = std::chrono::steady_clock::now();
        for (int n = 0; n < times; ++n) backward_ ? backward() : forward();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    void write(const std::string& directory) override {
        if (!backward_) return write_array(directory, "out.npy", out_);
        write_array(directory, "dq.npy", dq_);
        write_array(directory, "dk.npy", dk_);
        write_array(directory, "dv.npy", dv_);
    }

private:
    [[nodiscard]] static seqpar::origin whole(seqpar::index_t rows, seqpar::index_t heads) {
        return {seqpar::positions::whole(rows), {0, heads}};
    }

    void forward() {
        seqpar::clear(result_.acc());
        seqpar::clear(result_.sum());
        std::fill_n(result_.max().data(), result_.max().shape().count(), -std::numeric_limits<A>::infinity());
        seqpar::flash{}.forward(how_, queries_, std::span<const seqpar::key_block<T>>(&keys_, 1), score_, result_);
        result_.finish(out_.view(), lse_.view(), how_.executor);
    }
    void backward() {
        using namespace seqpar;
        row_delta<T>(std::as_const(out_).view(), in_.dout.view(), {}, delta_.view());
        clear(dq_.view()), clear(dk_.view()), clear(dv_.view());
        const row_gradients<T> of{in_.dout.view(), lse_.view(), delta_.view()};
        const key_gradients<A> dkv{dk_.view(), dv_.view()};
        flash{}.backward(how_, queries_, of, std::span<const key_block<T>>(&keys_, 1), score_, dq_.view(),
                         std::span<const key_gradients<A>>(&dkv, 1));
    }

    bool backward_;
    const arrays<T> in_;
    seqpar::any_score score_;
    seqpar::thread_pool pool_;
    seqpar::context how_;
    seqpar::origin rows_, key_rows_;
    seqpar::block<const T> queries_;
    seqpar::key_block<T> keys_;
    seqpar::partial<A> result_;
    seqpar::tensor<T> out_;
    seqpar::tensor<A> lse_, delta_, dq_, dk_, dv_;
};

} // namespace bench
