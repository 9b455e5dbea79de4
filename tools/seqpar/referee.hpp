#pragma once

#include "inputs.hpp"
#include "measured_run.hpp"
#include "settings.hpp"

#include <seqpar/core/cores.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/verify/gradient_judge.hpp>
#include <seqpar/verify/judge.hpp>

#include <algorithm>
#include <optional>

namespace seqpar::tool {

/// The judge of results on these inputs, and of gradients where they have a DOUT: what they are compared with is computed
/// when it is made, with all cores. Views of the inputs are kept.
template <class T, class Kernel>
class referee {
    using A = accumulator_t<T>;

public:
    /// serial: what serial has computed, if it has been run already; null: it is run.
    referee(const attention_settings& how, double scale, int ranks, const whole_inputs<T>& in,
            const measured_run<T>* serial) {
        const thread_pool all_cores(std::min(cores_here(), 64));
        const attention_shape shape = in.shape();
        context whole;
        whole.scale = scale;
        whole.n = {shape.queries, shape.keys};
        whole.group = shape.heads / shape.kv_heads;
        whole.executor = executor_ref(all_cores);
        judging options;
        options.merges = ranks, options.rows = how.sample;
        const auto &q = in.q.view, &k = in.k.view, &v = in.v.view;
        if (serial != nullptr)
            forward_.emplace(how.score, whole, q, k, v, serial->out.view(), serial->lse.view(), options);
        else
            forward_.emplace(kernel_of<Kernel>(how), how.score, whole, q, k, v, options);
        if (!in.dout) return;
        options.merges = 2 * ranks; // partials, and then the parts of dk and dv
        backward_.emplace(kernel_of<Kernel>(how), how.score, whole, q, k, v, in.dout->view,
                          in.dlse ? in.dlse->view : tensor_view<const A>{}, forward_->out(), forward_->lse(), options);
    }

    [[nodiscard]] report judge_forward(const measured_run<T>& run) const {
        return forward_->compare(run.out.view(), run.lse.view());
    }
    /// Of a run with a backward.
    [[nodiscard]] gradient_report judge_backward(const measured_run<T>& run) const {
        const auto& g = *run.backward;
        return backward_->compare(g.dq.view(), g.dk.view(), g.dv.view(), g.dsinks, g.dslopes);
    }

private:
    std::optional<judge<T, Kernel, any_score>> forward_;
    std::optional<gradient_judge<T, Kernel, any_score>> backward_;
};

} // namespace seqpar::tool
