#pragma once

#include "account.hpp"
#include "inputs.hpp"
#include "settings.hpp"

#include <seqpar/attention.hpp>
#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/metered.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/verify/collect.hpp>

#include <algorithm>
#include <chrono>
#include <new>
#include <string>
#include <system_error>
#include <vector>

namespace seqpar::tool {

/// The one scheme that the program instantiates, for an element type and a communicator: all else is chosen at run time.
template <class T, communicator C>
using run_time_attention =
    attention<any_strategy<C>, C, span_backend<T>, any_score, any_layout, any_kernel, thread_pool, options>;

/// One strategy over the whole input: outputs, gathered on rank 0 in the order of the files, and what it cost.
template <class T>
struct measured_run {
    std::string name;             ///< of the scheme
    double scale = 1;             ///< of q . k
    tensor<T> out;                ///< [batch, N, heads, head_dim of v]; elsewhere empty
    tensor<accumulator_t<T>> lse; ///< [batch, N, heads, 1]; elsewhere empty
    accounts cost;                ///< the same on every rank
};

[[nodiscard]] inline thread_pool make_pool(int threads) {
    try {
        return thread_pool(threads);
    } catch (const std::system_error& why) {
        throw error(detail::concat("--threads-per-rank ", threads, ": the system does not give that many threads (",
                                   why.what(), ')'));
    }
}

/// Runs a strategy on this rank's rows of the whole input and gathers the results. Collective.
/// `layout` may differ from the settings'. best_of_two: what takes less than half a second is run twice and the faster time
/// taken.
template <class T, communicator Raw>
[[nodiscard]] measured_run<T> run_measured(Raw& raw, const strategy_name& strategy, const any_layout& layout,
                                           const attention_settings& how, bool lse, const whole_inputs<T>& in,
                                           bool best_of_two) {
    using comm_type = metered<Raw>;
    using A = accumulator_t<T>;
    counted_memory memory;
    comm_type counting(raw);
    options rest;
    rest.scale = how.scale, rest.lse = lse, rest.memory = &memory;
    run_time_attention<T, comm_type> attend{counting,
                                            strategy.on<comm_type>(),
                                            span_backend<T>{how.order},
                                            how.score,
                                            layout,
                                            how.kernel,
                                            make_pool(how.threads_per_rank),
                                            rest};
    comm_type& comm = attend.comm();
    const attention_shape shape = in.shape();
    const auto where = detail::place(layout, comm.size(), {shape.queries, shape.keys}, shape.heads, shape.kv_heads);
    const placement& here = where[static_cast<std::size_t>(comm.rank())];
    const rank_rows<T> q(in.q.view, here.queries.rows), k(in.k.view, here.keys.rows), v(in.v.view, here.keys.rows);

    account mine;
    mine.predicted = attend.predict(shape, comm.rank());
    const traffic before = counting.counts().payload();
    const auto timed = [&] {
        collective::barrier(comm);
        const auto start = std::chrono::steady_clock::now();
        try {
            auto result = attend.forward(q.view(), k.view(), v.view());
            mine.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
            return result;
        } catch (const std::bad_alloc&) {
            throw error(detail::concat("not enough memory: this rank needs ", mine.predicted.memory,
                                       " bytes beyond its rows of Q, K, V and the output"));
        }
    };
    memory.reset_peak();
    auto result = timed();
    const traffic after = counting.counts().payload();
    mine.counted.bytes = static_cast<std::size_t>(after.bytes - before.bytes);
    mine.counted.messages = static_cast<std::size_t>(after.messages - before.messages);
    mine.counted.rounds = static_cast<std::size_t>(after.rounds - before.rounds);
    mine.counted.memory = memory.peak();

    measured_run<T> run;
    run.name = attend.name();
    run.scale = attend.scale(shape.dim);
    const auto gather_accounts = [&] {
        run.cost.of_ranks.resize(static_cast<std::size_t>(comm.size()));
        collective::all_gather_doubling(comm, outgoing{reinterpret_cast<const std::byte*>(&mine), sizeof mine},
                                        reinterpret_cast<std::byte*>(run.cost.of_ranks.data()));
    };
    gather_accounts();
    if (best_of_two && run.cost.seconds() < 0.5) {
        const std::vector<account> first = run.cost.of_ranks;
        result = timed();
        gather_accounts();
        for (std::size_t r = 0; r < first.size(); ++r)
            run.cost.of_ranks[r].seconds = std::min(first[r].seconds, run.cost.of_ranks[r].seconds);
    }

    run.out = collect(comm, tensor_view<const T>(result.out.view()), where, &placement::queries, how.order);
    if (lse) run.lse = collect(comm, tensor_view<const A>(result.lse.view()), where, &placement::queries, format::bhsd);
    return run;
}

} // namespace seqpar::tool
