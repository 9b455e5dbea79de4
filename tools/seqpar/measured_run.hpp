#pragma once

#include "account.hpp"
#include "inputs.hpp"
#include "settings.hpp"
#include "trace.hpp"

#include <seqpar/attention.hpp>
#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/traced.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/core/timeline.hpp>
#include <seqpar/kernel/traced_kernel.hpp>
#include <seqpar/verify/collect.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace seqpar::tool {

/// The one scheme that the program instantiates, for an element type, a communicator, and any_kernel or `reproducible`: all
/// else is chosen at run time.
template <class T, class Kernel, communicator C>
using run_time_attention = attention<any_strategy<C, traced_kernel<Kernel>>, C, span_backend<T>, any_score, any_layout,
                                     traced_kernel<Kernel>, thread_pool, options>;

/// One strategy over the whole input: outputs, gathered on rank 0 in the order of the files, and what it cost.
template <class T>
struct measured_run {
    std::string name;             ///< of the scheme
    double scale = 1;             ///< of q . k
    tensor<T> out;                ///< [batch, N, heads, head_dim of v]; elsewhere empty
    tensor<accumulator_t<T>> lse; ///< [batch, N, heads, 1]; elsewhere empty
    accounts cost;                ///< the same on every rank

    /// Where the inputs have a DOUT.
    struct backward_run {
        tensor<T> dq, dk, dv; ///< on rank 0
        std::vector<accumulator_t<T>> dsinks, dslopes;
        accounts cost;
    };
    std::optional<backward_run> backward;
    std::optional<run_trace> trace; ///< on rank 0, where one was asked for
};

[[nodiscard]] inline thread_pool make_pool(int threads) {
    try {
        return thread_pool(threads);
    } catch (const std::system_error& why) {
        throw error(detail::concat("--threads-per-rank ", threads, ": the system does not give that many threads (",
                                   why.what(), ')'));
    }
}

/// The accounts of all ranks, from this rank's. Collective.
template <communicator C>
[[nodiscard]] accounts gather_accounts(C& comm, const account& mine) {
    accounts all;
    all.of_ranks.resize(static_cast<std::size_t>(comm.size()));
    collective::all_gather_doubling(comm, outgoing{reinterpret_cast<const std::byte*>(&mine), sizeof mine},
                                    reinterpret_cast<std::byte*>(all.of_ranks.data()));
    return all;
}

/// Runs a strategy on this rank's rows of the whole input, backward too if it has a DOUT, and gathers the results.
/// Collective. `layout` may differ from the settings'. best_of_two: what takes less than half a second is run twice and the
/// faster time taken.
template <class T, class Kernel, communicator Raw>
[[nodiscard]] measured_run<T> run_measured(Raw& raw, const strategy_name& strategy, const any_layout& layout,
                                           const attention_settings& how, bool lse, const whole_inputs<T>& in,
                                           bool best_of_two) {
    using comm_type = traced<metered<Raw>>;
    using A = accumulator_t<T>;
    counted_memory memory;
    metered<Raw> comm(raw); // what is gathered here is no part of the trace
    const auto times = how.trace ? std::make_shared<timeline>() : nullptr;
    options rest;
    rest.scale = how.scale, rest.lse = lse || in.dout, rest.memory = &memory, rest.save = how.save;
    run_time_attention<T, Kernel, comm_type> attend{comm_type(comm, times),
                                                    strategy.on<comm_type, traced_kernel<Kernel>>(),
                                                    span_backend<T>{how.order},
                                                    how.score,
                                                    layout,
                                                    traced_kernel(kernel_of<Kernel>(how), times),
                                                    make_pool(how.threads_per_rank.value()),
                                                    rest};
    const attention_shape shape = in.shape();
    const auto where = detail::place(layout, comm.size(), {shape.queries, shape.keys}, shape.heads, shape.kv_heads);
    const placement& here = where[static_cast<std::size_t>(comm.rank())];
    const rank_rows<T> q(in.q.view, here.queries.rows), k(in.k.view, here.keys.rows), v(in.v.view, here.keys.rows);

    std::optional<rank_rows<T>> dout;
    if (in.dout) dout.emplace(in.dout->view, here.queries.rows);
    std::optional<rank_rows<A>> dlse;
    if (in.dlse) dlse.emplace(in.dlse->view, here.queries.rows);

    /// Runs pass() with its cost counted, or once more with its time taken.
    const auto measured = [&](account& of, const char* name, bool again, const auto& pass) {
        const traffic before = comm.counts().payload();
        if (!again) memory.reset_peak();
        collective::barrier(comm);
        const auto start = std::chrono::steady_clock::now();
        try {
            auto result = pass();
            const auto end = std::chrono::steady_clock::now();
            const double seconds = std::chrono::duration<double>(end - start).count();
            if (times) times->add({timeline::category::pass, name, start, end, {}, {}});
            of.seconds = again ? std::min(of.seconds, seconds) : seconds;
            if (again) return result;
            const traffic after = comm.counts().payload();
            of.counted.bytes = static_cast<std::size_t>(after.bytes - before.bytes);
            of.counted.messages = static_cast<std::size_t>(after.messages - before.messages);
            of.counted.rounds = static_cast<std::size_t>(after.rounds - before.rounds);
            of.counted.memory = memory.peak();
            return result;
        } catch (const std::bad_alloc&) {
            throw error(detail::concat("not enough memory: this rank needs ", of.predicted.memory,
                                       " bytes beyond its rows of Q, K, V and the output"));
        }
    };

    measured_run<T> run;
    const auto keep_trace = [&] {
        if (!times) return;
        run.trace = gather_trace(comm, times->spans());
        run.trace->strategy = strategy.text();
    };
    run.name = attend.name();
    run.scale = attend.scale(shape.dim);
    account mine;
    mine.predicted = attend.predict(shape, comm.rank());
    const auto forward = [&] { return attend.forward(q.view(), k.view(), v.view()); };
    if (times) times->reset(); // the making of groups is no part of a pass
    auto result = measured(mine, "forward", false, forward);
    run.cost = gather_accounts(comm, mine);
    if (best_of_two && run.cost.seconds() < 0.5) {
        static_cast<void>(measured(mine, "forward", true, forward));
        run.cost = gather_accounts(comm, mine);
    }
    run.out = collect(comm, tensor_view<const T>(result.out.view()), where, &placement::queries, how.order);
    if (lse) run.lse = collect(comm, tensor_view<const A>(result.lse.view()), where, &placement::queries, format::bhsd);
    if (!in.dout) {
        keep_trace();
        return run;
    }

    auto& back = run.backward.emplace();
    account of_backward;
    of_backward.predicted = attend.predict_backward(shape, comm.rank(), in.dlse.has_value());
    const auto backward = [&] {
        return attend.backward(dout->view(), result, dlse ? dlse->view() : tensor_view<const A>{});
    };
    auto gradients = measured(of_backward, "backward", false, backward);
    back.cost = gather_accounts(comm, of_backward);
    if (best_of_two && back.cost.seconds() < 0.5) {
        static_cast<void>(measured(of_backward, "backward", true, backward));
        back.cost = gather_accounts(comm, of_backward);
    }
    back.dq = collect(comm, tensor_view<const T>(gradients.dq.view()), where, &placement::queries, how.order);
    back.dk = collect(comm, tensor_view<const T>(gradients.dk.view()), where, &placement::keys, how.order);
    back.dv = collect(comm, tensor_view<const T>(gradients.dv.view()), where, &placement::keys, how.order);
    back.dsinks = std::move(gradients.dsinks), back.dslopes = std::move(gradients.dslopes);
    keep_trace();
    return run;
}

} // namespace seqpar::tool
