#pragma once

#include <seqpar/attention.hpp>
#include <seqpar/verify/collect.hpp>
#include <seqpar/verify/judge.hpp>
#include <seqpar/verify/report.hpp>

#include <span>
#include <utility>

namespace seqpar {

/// Runs a scheme on q, k, v, this rank's rows, and judges what it computes: against serial with the same kernel, every
/// element, and against the definition in double, at all rows or at seeded sample rows, with derived bounds. Collective;
/// the same report on every rank.
///
/// @pre as for attention::forward
/// @throws refusal as forward does
///
/// Rank 0 gathers all rows and does the judging: memory O(N (heads + kv_heads) head_dim), time that of serial attention
/// and O(keys * head_dim) for each judged row.
template <class Attention, class Q, class K, class V>
[[nodiscard]] report verify(Attention& attend, const Q& q, const K& k, const V& v, judging how = {}) {
    using T = typename Attention::value_type;
    using A = typename Attention::accumulator_type;
    auto result = attend.forward(q, k, v);

    auto& comm = attend.comm();
    [[maybe_unused]] const auto named = detail::announce(comm, "verify");
    const auto& backend = attend.backend();
    const tensor_view<const T> qv = backend.view(q), kv = backend.view(k), vv = backend.view(v);
    const lengths n = global_lengths(comm, {qv.shape().seq, kv.shape().seq});
    const auto where = detail::place(attend.layout(), comm.size(), n, qv.shape().heads, kv.shape().heads);
    const tensor<T> all_q = collect(comm, qv, where, &placement::queries),
                    all_k = collect(comm, kv, where, &placement::keys),
                    all_v = collect(comm, vv, where, &placement::keys),
                    all_out = collect(comm, tensor_view<const T>(backend.view(result.out)), where, &placement::queries);
    const tensor_view<const A> lse_view = backend.view_lse(result.lse);
    const tensor<A> all_lse = collect(comm, lse_view, where, &placement::queries);

    report r;
    if (comm.rank() == 0) {
        how.merges = std::max(how.merges, comm.size());
        context local;
        local.scale = attend.scale(qv.shape().dim);
        local.n = n;
        local.group = qv.shape().heads / kv.shape().heads;
        const judge judged(attend.kernel(), attend.score(), local, all_q.view(), all_k.view(), all_v.view(), how);
        r = judged.compare(all_out.view(), lse_view.shape().dim != 0 && lse_view.shape().heads != 0
                                               ? all_lse.view()
                                               : tensor_view<const A>{});
    }
    return share(comm, r);
}

} // namespace seqpar
