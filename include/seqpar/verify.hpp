#pragma once

#include <seqpar/attention.hpp>
#include <seqpar/verify/collect.hpp>
#include <seqpar/verify/gradient_judge.hpp>
#include <seqpar/verify/gradient_report.hpp>
#include <seqpar/verify/judge.hpp>
#include <seqpar/verify/report.hpp>
#include <seqpar/verify/results.hpp>

#include <utility>
#include <vector>

namespace seqpar {

namespace detail {

/// The whole input of an attention, on rank 0 in global order. Collective.
template <class Attention>
struct whole_attention {
    using T = typename Attention::value_type;

    Attention& attend;
    lengths n;
    std::vector<placement> where;
    tensor<T> q, k, v; // elsewhere empty

    template <class Q, class K, class V>
    whole_attention(Attention& of, const Q& my_q, const K& my_k, const V& my_v)
        : attend(of), n(global_lengths(of.comm(), {rows(my_q), rows(my_k)})),
          where(place(of.layout(), of.comm().size(), n, heads(my_q), heads(my_k))), q(collect_queries(view(my_q))),
          k(collect_keys(view(my_k))), v(collect_keys(view(my_v))) {}

    template <class E>
    [[nodiscard]] tensor<E> collect_queries(const tensor_view<const E>& mine) const {
        return collect(attend.comm(), mine, where, &placement::queries);
    }
    template <class E>
    [[nodiscard]] tensor<E> collect_keys(const tensor_view<const E>& mine) const {
        return collect(attend.comm(), mine, where, &placement::keys);
    }
    /// What a kernel is to know of it, on rank 0.
    [[nodiscard]] context local() const {
        context how;
        how.scale = attend.scale(q.shape().dim);
        how.n = n;
        how.group = q.shape().heads / k.shape().heads;
        return how;
    }

private:
    template <class X>
    [[nodiscard]] tensor_view<const T> view(const X& x) const {
        return attend.backend().view(x);
    }
    template <class X>
    [[nodiscard]] index_t rows(const X& x) const {
        return view(x).shape().seq;
    }
    template <class X>
    [[nodiscard]] index_t heads(const X& x) const {
        return view(x).shape().heads;
    }
};

} // namespace detail

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
    const detail::whole_attention<Attention> whole(attend, q, k, v);
    const tensor<T> all_out = whole.collect_queries(tensor_view<const T>(attend.backend().view(result.out)));
    const tensor_view<const A> lse_view = attend.backend().view_lse(result.lse);
    const tensor<A> all_lse = whole.collect_queries(lse_view);

    report r;
    if (comm.rank() == 0) {
        how.merges = std::max(how.merges, comm.size());
        const judge judged(attend.kernel(), attend.score(), whole.local(), whole.q.view(), whole.k.view(),
                           whole.v.view(), how);
        r = judged.compare(all_out.view(), lse_view.shape().dim != 0 && lse_view.shape().heads != 0
                                               ? all_lse.view()
                                               : tensor_view<const A>{});
    }
    return share(comm, r);
}

/// Runs forward and backward of a scheme on q, k, v, dout, this rank's rows, and judges the gradients as verify judges out.
/// dlse: [batch, rows, heads, 1], or a default view. Collective; the same report on every rank.
///
/// @pre as for attention::backward
/// @throws refusal as forward and backward do
///
/// Rank 0 gathers all rows and does the judging: memory as verify, time that of serial attention and its backward and
/// O((keys + group * queries) * head_dim) for each judged row and key.
template <class Attention, class Q, class K, class V, class D>
[[nodiscard]] gradient_report verify_backward(Attention& attend, const Q& q, const K& k, const V& v, const D& dout,
                                              const tensor_view<const typename Attention::accumulator_type>& dlse = {},
                                              judging how = {}) {
    using T = typename Attention::value_type;
    using A = typename Attention::accumulator_type;
    auto result = attend.forward(q, k, v);
    auto gradients = attend.backward(dout, result, dlse);

    auto& comm = attend.comm();
    const auto& backend = attend.backend();
    [[maybe_unused]] const auto named = detail::announce(comm, "verify");
    const detail::whole_attention<Attention> whole(attend, q, k, v);
    const tensor<T> all_dout = whole.collect_queries(tensor_view<const T>(backend.view(dout))),
                    dq = whole.collect_queries(tensor_view<const T>(backend.view(gradients.dq))),
                    dk = whole.collect_keys(tensor_view<const T>(backend.view(gradients.dk))),
                    dv = whole.collect_keys(tensor_view<const T>(backend.view(gradients.dv)));
    const tensor<A> all_dlse = dlse.shape().dim == 0 ? tensor<A>{} : whole.collect_queries(dlse);

    gradient_report r;
    if (comm.rank() == 0) {
        how.merges = std::max(how.merges, 2 * comm.size());
        judging none = how;
        none.budget = 0; // of judge only what serial computes is needed
        const context local = whole.local();
        const judge serial_result(attend.kernel(), attend.score(), local, whole.q.view(), whole.k.view(),
                                  whole.v.view(), none);
        const gradient_judge judged(attend.kernel(), attend.score(), local, whole.q.view(), whole.k.view(),
                                    whole.v.view(), all_dout.view(),
                                    dlse.shape().dim == 0 ? tensor_view<const A>{} : all_dlse.view(),
                                    serial_result.out(), serial_result.lse(), how);
        r = judged.compare(dq.view(), dk.view(), dv.view(), gradients.dsinks, gradients.dslopes);
    }
    return share(comm, r);
}

} // namespace seqpar
