#pragma once

#include <seqpar/attention/options.hpp>
#include <seqpar/attention/policies.hpp>
#include <seqpar/attention/preflight.hpp>
#include <seqpar/core/binned_sum.hpp>
#include <seqpar/core/operation.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/core/workspace.hpp>
#include <seqpar/kernel/delta.hpp>
#include <seqpar/score/parts.hpp>
#include <seqpar/score/rows_seen.hpp>
#include <seqpar/strategy/passes.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace seqpar {

/// What forward returns: this rank's rows of out, [batch, seq, heads, head_dim of v] in the backend's order, and of lse,
/// [batch, heads, seq], natural logarithm, in the accumulation type. Without options::lse, lse has no rows. `saved` is for
/// backward: views of q, k and v, which must stay as they are until then, and what options::save says.
template <class Out, class Lse, class Saved>
struct forward_result {
    Out out;
    Lse lse;
    Saved saved;
};

/// What backward returns: this rank's rows of the gradients, in the storage type and the backend's order. dk and dv have
/// kv_heads heads. dsinks and dslopes, [heads], in the accumulation type, are summed over all ranks and the same on each;
/// empty where the score has no sinks or no slopes. Taken apart, auto [dq, dk, dv], it gives the tensors.
template <class Tensor, class A>
struct backward_result {
    Tensor dq, dk, dv;
    std::vector<A> dsinks, dslopes;

    template <std::size_t I>
    [[nodiscard]] Tensor& get() & noexcept {
        return I == 0 ? dq : I == 1 ? dk : dv;
    }
    template <std::size_t I>
    [[nodiscard]] const Tensor& get() const& noexcept {
        return I == 0 ? dq : I == 1 ? dk : dv;
    }
    template <std::size_t I>
    [[nodiscard]] Tensor&& get() && noexcept {
        return std::move(I == 0 ? dq : I == 1 ? dk : dv);
    }
};

namespace detail {

/// What a rank's rows add to the gradient of the sink of each head: - sum_i exp(sink - lse_i) delta_i, the weight of a key
/// whose value row is zero. sums: [heads], or none.
template <class A, score S>
void add_sink_gradients(const S& s, const tensor_view<const A>& lse, const tensor_view<const A>& delta,
                        std::span<binned_sum> sums) {
    const extents& e = lse.shape();
    for (std::size_t head = 0; head < sums.size(); ++head) {
        const index_t h = static_cast<index_t>(head);
        const double logit = logit_of(s, h);
        if (logit == -std::numeric_limits<double>::infinity()) continue;
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                sums[head] +=
                    -std::exp(logit - static_cast<double>(lse(b, i, h))) * static_cast<double>(delta(b, i, h));
    }
}

/// E: what the strategy has moved.
template <class T, class E, class Bound>
struct saved_for_backward {
    std::shared_ptr<workspace> memory; // where `moved` may be: lives as long
    tensor_view<const T> q, k, v;
    lengths n;
    typename kept_by<Bound, E>::type moved;
};

} // namespace detail

/// Scaled dot-product attention over a sequence that is sharded over the ranks of a communicator:
///
///     out_i = sum_j softmax_j(score(scale * q_i . k_j)) v_j      over the keys j that the score lets query i see
///
/// Policies are types, in any order, each recognised by its concept:
///
///     strategy       how ranks share the work         serial, ulysses<Inner>, all_gather, ring, tree, grid
///     communicator   how they talk                    self_communicator, thread_communicator, mpi_communicator, ...
///     backend        the user's tensors               span_backend<T>, xtensor_backend<T>
///     score          who sees whom, how much          full, causal, sliding_window, documents, softcap, alibi, bias,
///                                                     sink, dropout, score_function, a & b
///     layout         which rank holds which rows      contiguous, zigzag, striped
///     kernel         how a block is computed          flash, reference, reproducible
///     executor       the threads of one rank          inline_executor, thread_pool
///     options        scale, lse, what is kept, checks, memory
///
/// What is left out is serial, self_communicator, span_backend<float>, full, contiguous, flash, inline_executor.
///
///     attention attend{world, ring{}, zigzag{}, causal{}};      // types deduced from values
///     auto fwd = attend.forward(q, k, v);                          // {out, lse, saved}
///     auto [dq, dk, dv] = attend.backward(dout, fwd);
///
/// Two policies of one kind, or a type that is none, do not compile. A value, but not a copyable one: it holds its own
/// duplicate of the communicator, so two of them never mix messages.
template <class... Policies>
class attention {
    static_assert((detail::must_be_a_policy<Policies>::value && ...));
    template <class Kind>
    static constexpr bool at_most_one = detail::count_of<Kind, Policies...> <= 1;
    static_assert(at_most_one<detail::strategy_kind>, "attention<...> was given two strategies");
    static_assert(at_most_one<detail::communicator_kind>, "attention<...> was given two communicators");
    static_assert(at_most_one<detail::backend_kind>, "attention<...> was given two tensor backends");
    static_assert(at_most_one<detail::score_kind>, "attention<...> was given two scores: compose them with &");
    static_assert(at_most_one<detail::layout_kind>, "attention<...> was given two layouts");
    static_assert(at_most_one<detail::kernel_kind>, "attention<...> was given two kernels");
    static_assert(at_most_one<detail::executor_kind>, "attention<...> was given two executors");

public:
    using strategy_type = detail::pick_t<detail::strategy_kind, Policies...>;
    using communicator_type = detail::pick_t<detail::communicator_kind, Policies...>;
    using backend_type = detail::pick_t<detail::backend_kind, Policies...>;
    using score_type = detail::pick_t<detail::score_kind, Policies...>;
    using layout_type = detail::pick_t<detail::layout_kind, Policies...>;
    using kernel_type = detail::pick_t<detail::kernel_kind, Policies...>;
    using executor_type = detail::pick_t<detail::executor_kind, Policies...>;
    using value_type = typename backend_type::value_type; ///< storage type T of q, k, v, out
    using accumulator_type = accumulator_t<value_type>;
    using element_type = kernel_element_t<kernel_type, value_type>; ///< the same, as the kernel takes it

private:
    using bound_type = decltype(std::declval<const strategy_type&>().on(std::declval<communicator_type&>()));
    using saved_type = detail::saved_for_backward<value_type, element_type, bound_type>;
    using run = detail::passes<element_type, value_type>;

public:
    static_assert(strategy_on<strategy_type, communicator_type>,
                  "attention: this strategy cannot run on this communicator");
    static_assert(real_element<value_type> ? kernel<kernel_type, element_type> : true,
                  "attention: this kernel does not take the backend's element type");

    /// Values of policies, in any order; those that are left out are default-made. Collective over the communicator's ranks.
    /// @throws refusal, on every rank, if the ranks' schemes differ, the strategy cannot run on that many ranks, or the
    ///         score's parameters make no sense.
    template <class... Given>
        requires(detail::is_some_policy<Given>&&...)
    explicit attention(Given... given) : attention(from{}, std::tuple<Given...>(std::move(given)...)) {}

    /// This rank's rows of the attention of all ranks' q, k, v. Collective.
    ///
    /// @pre q: [batch, rows, heads, head_dim], k: [batch, key rows, kv_heads, head_dim], v: [batch, key rows, kv_heads,
    ///      head_dim of v]: the rows that the layout gives this rank, in the layout's order; heads a multiple of kv_heads
    /// @pre all ranks agree on everything but the number of rows
    /// @pre with options::check below all_ranks, `n` is given: the global numbers of rows of Q and of K
    /// @throws refusal if not, on every rank, before any payload is sent
    ///
    /// A row that sees no key gets out = 0 and lse = -inf. Cost: predict().
    template <class Q, class K, class V>
    [[nodiscard]] auto forward(const Q& q, const K& k, const V& v, std::optional<lengths> n = {}) {
        return detail::named_operation(forward_name_.c_str(), [&] { return compute_forward(q, k, v, n); });
    }

    /// This rank's rows of the gradients of the global function: for a loss with gradient dout by out, and dlse by lse, if
    /// it depends on it, those by q, k and v. No factor of P hides anywhere. Collective.
    ///
    /// @pre `of` is what forward of this object has returned on every rank; its q, k, v are as they were
    /// @pre dout: of the shape of out; dlse: [batch, rows, heads, 1] or a default view, the same choice on every rank
    /// @throws refusal if not, on every rank, before any payload is sent
    ///
    /// Scores are recomputed from lse: nothing of rows x keys is kept. Sums are kept in the accumulation type.
    template <class D, class Forward>
    [[nodiscard]] auto backward(const D& dout, const Forward& of,
                                const tensor_view<const accumulator_type>& dlse = {}) {
        return detail::named_operation(backward_name_.c_str(), [&] { return compute_backward(dout, of, dlse); });
    }

    /// What forward costs a rank: messages and bytes sent, rounds, peak memory beyond its own tensors. No communication.
    [[nodiscard]] plan::cost predict(const attention_shape& shape, int rank) const {
        return priced(shape, false, [&](const plan::problem& p) {
            plan::cost c = strategy_.predict(p, rank);
            c.memory += run::forward_bytes(p.items(p.of(rank).queries), p.lse);
            return c;
        });
    }

    /// What backward costs a rank, likewise; its own tensors are q, k, v, out, lse, dout and dq, dk, dv. `into_lse`: it is
    /// given a dlse.
    [[nodiscard]] plan::cost predict_backward(const attention_shape& shape, int rank, bool into_lse = false) const {
        return priced(shape, into_lse, [&](const plan::problem& p) {
            plan::cost c = strategy_.predict_backward(p, rank);
            const std::size_t size = static_cast<std::size_t>(comm_.size()), rows = p.items(p.of(rank).queries);
            const std::size_t sums =
                sizeof(binned_sum) * static_cast<std::size_t>(sinks_of(score_) + slopes_of(score_));
            // delta and what the heads' gradients are summed from; beside them first the pass and what is added up beside
            // the results, then what forward has kept and the heads' sums of all ranks
            const std::size_t own = rows * element_traits<accumulator_type>::wire_bytes + sums;
            c.memory = own + std::max(run::backward_bytes(rows, p.q_bytes(rank) + p.kv_bytes(rank)) + c.memory,
                                      size > 1 ? c.kept + size * sums : 0);
            if (size == 1 || sums == 0) return c;
            const auto rounds = static_cast<std::size_t>(std::bit_width(size - 1));
            c.bytes += (size - 1) * sums, c.messages += rounds, c.rounds += rounds;
            return c;
        });
    }

    [[nodiscard]] communicator_type& comm() noexcept { return comm_; }
    [[nodiscard]] const backend_type& backend() const noexcept { return backend_; }
    [[nodiscard]] const layout_type& layout() const noexcept { return layout_; }
    [[nodiscard]] const score_type& score() const noexcept { return score_; }
    [[nodiscard]] const kernel_type& kernel() const noexcept { return kernel_; }
    /// Factor of q . k for that head_dim.
    [[nodiscard]] double scale(index_t dim) const {
        return options_.scale.value_or(1 / std::sqrt(static_cast<double>(dim)));
    }
    /// "ring, zigzag, causal(top-left), flash"
    [[nodiscard]] std::string name() const {
        return strategy_.name() + ", " + layout_.name() + ", " + score_.name() + ", " + kernel_.name();
    }

private:
    struct from {};

    template <class... Given>
    attention(from, const std::tuple<Given...>& given)
        : strategy_(detail::choose<detail::strategy_kind, strategy_type>(given)),
          backend_(detail::choose<detail::backend_kind, backend_type>(given)),
          score_(detail::choose<detail::score_kind, score_type>(given)),
          layout_(detail::choose<detail::layout_kind, layout_type>(given)),
          kernel_(detail::choose<detail::kernel_kind, kernel_type>(given)),
          executor_(detail::choose<detail::executor_kind, executor_type>(given)),
          options_(detail::choose<detail::options_kind, options>(given)),
          comm_(detail::named_operation(
              "attention", [&] { return own(detail::choose<detail::communicator_kind, communicator_type>(given)); })),
          bound_(detail::named_operation("attention", [&] { return strategy_.on(comm_); })) {}

    template <class Q, class K, class V>
    [[nodiscard]] auto compute_forward(const Q& q, const K& k, const V& v, std::optional<lengths> n) {
        using T = value_type;
        operands<T> x{};
        std::string trouble;
        try {
            x.q = backend_.view(q), x.k = backend_.view(k), x.v = backend_.view(v);
        } catch (const refusal& why) {
            trouble = why.what();
        }
        const lengths whole = check(x, trouble, n);
        const auto where = detail::place(layout_, comm_.size(), whole, x.q.shape().heads, x.k.shape().heads);

        const extents shape{x.q.shape().batch, x.q.shape().seq, x.q.shape().heads, x.v.shape().dim};
        const extents lse_shape = options_.lse ? extents{shape.batch, shape.seq, shape.heads, 1} : extents{};
        auto out = backend_.make(shape);
        auto lse = backend_.make_lse(lse_shape);
        x.out = backend_.view(out);
        if (options_.lse) x.lse = backend_.view_lse(lse);

        saved_type saved{workspace_, x.q, x.k, x.v, whole, {}};
        run::forward(bound_, local(x, whole), where, x, options_.save == saving::keep ? &saved.moved : nullptr);
        return forward_result<decltype(out), decltype(lse), saved_type>{std::move(out), std::move(lse),
                                                                        std::move(saved)};
    }

    template <class D, class Forward>
    [[nodiscard]] auto compute_backward(const D& dout, const Forward& of,
                                        const tensor_view<const accumulator_type>& dlse) {
        using T = value_type;
        using A = accumulator_type;
        static_assert(differentiable_score<score_type>,
                      "attention: this score has no backward: give its function a derivative");
        static_assert(!differentiable_score<score_type> || differentiable_kernel<kernel_type, element_type, score_type>,
                      "attention: this kernel has no backward: choose flash or reference");
        static_assert(
            differentiable<bound_type, element_type, local_attention<kernel_type, score_type>>,
            "attention: this strategy has no backward: choose serial, ulysses, all_gather, ring, tree or grid");
        const saved_type& s = of.saved;
        const operands<T> x{s.q, s.k, s.v, {}, {}};
        const tensor_view<const T> out = backend_.view(of.out);
        const tensor_view<const A> lse = backend_.view_lse(of.lse);
        const extents &e = x.q.shape(), &ke = x.k.shape(), &ve = x.v.shape();
        tensor_view<const T> dout_view;
        std::string trouble;
        try {
            dout_view = backend_.view(dout);
            if (lacks_derivative(score_))
                trouble = score_.name() + " has no derivative: backward needs one";
            else if (dout_view.shape() != out.shape())
                trouble =
                    detail::concat("dout is ", dout_view.shape(), " and out is ", out.shape(), ": they must be equal");
            else if (lse.shape() != extents{e.batch, e.seq, e.heads, 1})
                trouble = "backward needs the lse of forward, which was made with options::lse = false";
            else if (dlse.shape().dim != 0 && dlse.shape() != lse.shape())
                trouble = detail::concat("dlse is ", dlse.shape(), " and lse is ", lse.shape(), ": they must be equal");
        } catch (const refusal& why) {
            trouble = why.what();
        }
        static_cast<void>(check(x, trouble, s.n, dlse.shape().dim != 0 ? 2 : 1));
        const auto where = detail::place(layout_, comm_.size(), s.n, e.heads, ke.heads);

        tensor<A> delta = tensor<A>::unset(lse.shape(), memory());
        row_delta<T>(out, dout_view, dlse, delta.view());
        backward_result<decltype(backend_.make(e)), A> result{
            backend_.make(e), backend_.make(ke), backend_.make(ve), {}, {}};
        const auto sinks = static_cast<std::size_t>(sinks_of(score_)),
                   slopes = static_cast<std::size_t>(slopes_of(score_));
        std::pmr::vector<binned_sum> of_heads(sinks + slopes, memory()); // what this rank adds to each
        auto how = local(x, s.n);
        how.how.slope_gradients = std::span(of_heads).subspan(sinks);
        run::backward(
            bound_, how, where, x, row_gradients<T>{dout_view, lse, std::as_const(delta).view()}, dlse.shape().dim != 0,
            detail::gradient_views<T>{backend_.view(result.dq), backend_.view(result.dk), backend_.view(result.dv)},
            s.moved);
        detail::add_sink_gradients<A>(score_, lse, std::as_const(delta).view(), std::span(of_heads).first(sinks));
        sum_over_ranks(of_heads);

        for (std::size_t n = 0; n < of_heads.size(); ++n)
            (n < sinks ? result.dsinks : result.dslopes).push_back(static_cast<A>(of_heads[n]));
        return result;
    }

    /// A duplicate of the communicator, once all ranks agree on what it is for.
    [[nodiscard]] communicator_type own(communicator_type given) const {
        [[maybe_unused]] const auto named = detail::announce(given, "preflight");
        detail::call mine;
        mine.scheme.identify(name());
        detail::describe(options_, mine);
        try {
            strategy_.check(given.size());
            check_score(score_);
            if constexpr (requires { kernel_.check(); }) kernel_.check();
        } catch (const refusal& why) {
            mine.trouble = why.what();
        }
        const auto all = collective::roll_call(given, mine, options_.patience);
        detail::refuse_differences(all);
        detail::refuse_trouble(all);
        return given.split(0, given.rank());
    }

    /// The preconditions of forward, and the global numbers of rows.
    /// `pass`: 0 forward, 1 backward, 2 backward with a gradient into lse.
    [[nodiscard]] lengths check(const operands<value_type>& x, const std::string& trouble, std::optional<lengths> n,
                                std::size_t pass = 0) {
        detail::call mine;
        mine.q = x.q.shape(), mine.k = x.k.shape(), mine.v = x.v.shape();
        mine.scale = scale(x.q.shape().dim);
        detail::describe(options_, mine);
        mine.pass = pass;
        mine.element = element_traits<value_type>::name;
        mine.scheme.identify(name());
        mine.trouble = trouble.empty() && options_.check != check_level::none ? detail::trouble_of(mine) : trouble;

        std::vector<detail::call> all{mine};
        lengths whole = n.value_or(lengths{});
        if (options_.check == check_level::all_ranks) {
            [[maybe_unused]] const auto named = detail::announce(comm_, "preflight");
            all = collective::roll_call(comm_, mine, options_.patience);
            whole = {};
            for (const detail::call& c : all) whole.queries += c.q.seq, whole.keys += c.k.seq;
        } else if (!n) {
            throw refusal(
                "without a check on all ranks nobody knows the global sequence: give forward the lengths of Q and K");
        }
        detail::refuse_trouble(all);
        if (options_.check != check_level::none) detail::refuse_differences(all);
        check_score(score_, attention_shape{mine.q.batch, whole.queries, whole.keys, mine.q.heads, mine.k.heads,
                                            mine.q.dim, mine.v.dim}); // the same on every rank, now that these agree
        if (options_.check == check_level::none) return whole;
        const auto where = detail::place(layout_, comm_.size(), whole, mine.q.heads, mine.k.heads);
        const std::size_t first = all.size() == 1 ? static_cast<std::size_t>(comm_.rank()) : 0;
        for (std::size_t i = 0; i < all.size(); ++i)
            detail::refuse_rows(all[i], first + i, where, whole, layout_.name());
        return whole;
    }

    [[nodiscard]] local_attention<kernel_type, score_type> local(const operands<value_type>& x, lengths n) const {
        context how;
        how.scale = scale(x.q.shape().dim);
        how.n = n;
        how.group = x.q.shape().heads / x.k.shape().heads;
        how.executor = executor_ref(executor_);
        how.memory = memory();
        return {kernel_, score_, how};
    }

    /// Calls price(problem) for a pass over that shape.
    template <class Price>
    [[nodiscard]] plan::cost priced(const attention_shape& shape, bool into_lse, const Price& price) const {
        const lengths n{shape.queries, shape.keys};
        const auto where = detail::place(layout_, comm_.size(), n, shape.heads, shape.kv_heads);
        const auto scratch = [&](const extents& q, const extents& v, std::span<const positions> keys) {
            return kernel_.template workspace_bytes<element_type>(q, v, keys, executor_.workers());
        };
        const auto backward_scratch = [&](const extents& q, const extents& v, std::span<const positions> keys) {
            if constexpr (differentiable_kernel<kernel_type, element_type, score_type>)
                return kernel_.template backward_workspace_bytes<element_type>(q, v, keys, executor_.workers());
            else
                return std::size_t{0};
        };
        const auto sees = [&](const origin& q, const origin& k) { return may_see(score_, n, q.rows, k.rows); };
        const auto seen = [&](const origin& q, const origin& k) { return rows_seen(score_, n, q.rows, k.rows).at; };
        return price(plan::problem{.batch = shape.batch,
                                   .dim = shape.dim,
                                   .dim_v = shape.dim_v,
                                   .group = shape.heads / shape.kv_heads,
                                   .element_bytes = element_traits<value_type>::wire_bytes,
                                   .accumulator_bytes = element_traits<accumulator_t<element_type>>::wire_bytes,
                                   .partial_scalars = partial<accumulator_t<element_type>>::scalars,
                                   .lse = options_.lse,
                                   .keep = options_.save == saving::keep,
                                   .into_lse = into_lse,
                                   .where = where,
                                   .kernel_bytes = scratch,
                                   .backward_kernel_bytes = backward_scratch,
                                   .sees = sees,
                                   .seen = seen});
    }

    /// Adds up what all ranks have, on every rank.
    void sum_over_ranks(std::pmr::vector<binned_sum>& mine) {
        const std::size_t count = mine.size(), size = static_cast<std::size_t>(comm_.size());
        if (count == 0 || size == 1) return;
        std::pmr::vector<binned_sum> all(size * count, memory());
        collective::all_gather_doubling(
            comm_, outgoing{reinterpret_cast<const std::byte*>(mine.data()), count * sizeof(binned_sum)},
            reinterpret_cast<std::byte*>(all.data()));
        std::ranges::fill(mine, binned_sum{});
        for (std::size_t i = 0; i < all.size(); ++i) mine[i % count] += all[i];
    }

    [[nodiscard]] std::pmr::memory_resource* memory() const noexcept {
        return options_.memory != nullptr ? options_.memory : workspace_.get();
    }

    strategy_type strategy_;
    backend_type backend_;
    score_type score_;
    layout_type layout_;
    kernel_type kernel_;
    executor_type executor_;
    options options_;
    std::string forward_name_ = strategy_.name() + " forward", backward_name_ = strategy_.name() + " backward";
    std::shared_ptr<workspace> workspace_ = std::make_shared<workspace>();
    communicator_type comm_;
    bound_type bound_;
};

/// The policies' types from their values.
template <class... Given>
attention(Given...) -> attention<Given...>;

} // namespace seqpar

template <class Tensor, class A>
struct std::tuple_size<seqpar::backward_result<Tensor, A>> : std::integral_constant<std::size_t, 3> {};
template <std::size_t I, class Tensor, class A>
struct std::tuple_element<I, seqpar::backward_result<Tensor, A>> {
    using type = Tensor;
};
