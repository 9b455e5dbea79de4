#pragma once

#include <seqpar/attention/preflight.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/verify/faults.hpp>
#include <seqpar/verify/gradient_judge.hpp>
#include <seqpar/verify/judge.hpp>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// What another program has computed attention of: the whole sequence, in global order.
template <real_element T>
struct given_inputs {
    tensor_view<const T> q, k,
        v; ///< [batch, Nq, heads, head_dim], [batch, Nk, kv_heads, head_dim], [..., head_dim of v]
    tensor_view<const T> dout = {}; ///< of backward: [batch, Nq, heads, head_dim of v]; or a default view
    tensor_view<const accumulator_t<T>> dlse = {}; ///< [batch, Nq, heads, 1], or a default view
    std::optional<double> scale = {};              ///< of q . k; none: 1 / sqrt(head_dim)
};

/// What it has computed. What is not to be judged is left out: default views, empty spans.
template <real_element T>
struct given_results {
    tensor_view<const T> out = {};                     ///< [batch, Nq, heads, head_dim of v]
    tensor_view<const accumulator_t<T>> lse = {};      ///< natural logarithm, [batch, Nq, heads, 1]
    tensor_view<const T> dq = {}, dk = {}, dv = {};    ///< in the shapes of q, k, v
    std::span<const double> dsinks = {}, dslopes = {}; ///< [heads]
};

/// What judging found of each array that was given.
struct result_report {
    std::vector<array_verdict> of;

    [[nodiscard]] bool passed() const {
        return std::all_of(of.begin(), of.end(), [](const array_verdict& v) { return v.passed(); });
    }
    [[nodiscard]] std::string text() const {
        std::string all = passed() ? "verified" : "FAILED";
        for (const array_verdict& v : of) all += '\n' + v.text();
        return all;
    }
};

namespace detail {

template <real_element T, score S>
void check_given(const given_inputs<T>& in, const given_results<T>& of, const S& s) {
    call whole;
    whole.q = in.q.shape(), whole.k = in.k.shape(), whole.v = in.v.shape();
    if (const std::string trouble = trouble_of(whole); !trouble.empty()) throw refusal(trouble);
    check_score(s);
    check_score(s, attention_shape{whole.q.batch, whole.q.seq, whole.k.seq, whole.q.heads, whole.k.heads, whole.q.dim,
                                   whole.v.dim});
    const auto expect = [](const char* what, const auto& have, const extents& want) {
        if (have.shape() != extents{} && have.shape() != want)
            throw refusal(concat(what, " is ", have.shape(), ": allowed is ", want));
    };
    extents rows = whole.q, out = whole.q;
    rows.dim = 1, out.dim = whole.v.dim;
    expect("out", of.out, out), expect("lse", of.lse, rows);
    expect("dout", in.dout, out), expect("dlse", in.dlse, rows);
    expect("dq", of.dq, whole.q), expect("dk", of.dk, whole.k), expect("dv", of.dv, whole.v);
    const auto of_heads = [](const char* what, std::span<const double> have, index_t heads) {
        if (!have.empty() && static_cast<index_t>(have.size()) != heads)
            throw refusal(concat(what, " are ", have.size(), ": allowed are ", heads, ", as many as the score has"));
    };
    of_heads("dsinks", of.dsinks, sinks_of(s)), of_heads("dslopes", of.dslopes, slopes_of(s));
}

} // namespace detail

/// Judges what another program has computed, elementwise: against the definition in double, at all rows or at seeded
/// sample rows, with bounds derived for an arithmetic that stores tensors as T and sums in accumulator_t<T>, in any order,
/// and may round weights and dS to T before it multiplies them. Other rows are compared with this library's serial
/// attention, as far as the judged bounds let two results differ.
///
/// how.merges: partials that the program merges, 1 for one that does not shard. how.arithmetic: where it differs.
/// @throws refusal if shapes do not belong together, or gradients are given without dout
///
/// Time that of serial attention, and of its backward where gradients are given, and O((keys + group * queries) *
/// head_dim) for each judged row and key. Memory O(N (heads + kv_heads) head_dim).
template <real_element T, score S, class Kernel = flash>
[[nodiscard]] result_report judge_results(const given_inputs<T>& in, const S& s, const given_results<T>& of,
                                          judging how = {}, const executor_ref& executor = {},
                                          const Kernel& kernel = {}) {
    detail::check_given(in, of, s);
    const auto given = [](const auto& x) { return x.shape() != extents{}; };
    const bool backward = given(of.dq) || given(of.dk) || given(of.dv) || !of.dsinks.empty() || !of.dslopes.empty();
    if (backward && !given(in.dout)) throw refusal("gradients are judged with the dout that they came from: give dout");

    context local;
    local.scale = in.scale.value_or(1 / std::sqrt(static_cast<double>(in.q.shape().dim)));
    local.n = {in.q.shape().seq, in.k.shape().seq};
    local.group = in.q.shape().heads / in.k.shape().heads;
    local.executor = executor;
    if (!how.arithmetic) how.arithmetic = judged_arithmetic::of_others<T>(how.merges);
    const judge<T, Kernel, S> forward(kernel, s, local, in.q, in.k, in.v, how);
    result_report r;
    if (given(of.out)) r.of.push_back(find_faults("out", of.out, forward.expected_out()));
    if (given(of.lse)) r.of.push_back(find_faults("lse", of.lse, forward.expected_lse()));
    if (!backward) return r;

    how.arithmetic->merges *= 2; // partials, and then the parts of dk and dv
    const gradient_judge<T, Kernel, S> gradients(kernel, s, local, in.q, in.k, in.v, in.dout, in.dlse, forward.out(),
                                                 forward.lse(), how);
    const auto judge_gradient = [&](const char* name, const tensor_view<const T>& have, std::size_t n) {
        if (given(have)) r.of.push_back(find_faults(name, have, gradients.expected(n)));
    };
    judge_gradient("dq", of.dq, 0), judge_gradient("dk", of.dk, 1), judge_gradient("dv", of.dv, 2);
    const auto judge_heads = [&](const char* name, std::span<const double> have, bool sinks) {
        const tensor_view<const double> view(have.data(), {1, 1, static_cast<index_t>(have.size()), 1});
        if (!have.empty()) r.of.push_back(find_faults(name, view, gradients.expected_of_heads(sinks)));
    };
    judge_heads("dsinks", of.dsinks, true), judge_heads("dslopes", of.dslopes, false);
    return r;
}

} // namespace seqpar
