#pragma once

#include "inputs.hpp"
#include "settings.hpp"

#include <seqpar/core/executor.hpp>
#include <seqpar/verify/judge.hpp>

#include <algorithm>
#include <thread>

namespace seqpar::tool {

/// The judge of results on these inputs: serial and the definition are computed when it is made, with all cores. Views of
/// the inputs are kept.
template <class T>
[[nodiscard]] judge<T, any_kernel, any_score> make_judge(const attention_settings& how, double scale, int ranks,
                                                         const whole_inputs<T>& in) {
    const thread_pool all_cores(std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 64));
    const attention_shape shape = in.shape();
    context whole;
    whole.scale = scale;
    whole.n = {shape.queries, shape.keys};
    whole.group = shape.heads / shape.kv_heads;
    whole.executor = executor_ref(all_cores);
    judging options;
    options.merges = ranks;
    return judge<T, any_kernel, any_score>(how.kernel, how.score, whole, in.q.view, in.k.view, in.v.view, options);
}

} // namespace seqpar::tool
