#pragma once

#include <seqpar/attention/options.hpp>
#include <seqpar/attention/policies.hpp>
#include <seqpar/attention/preflight.hpp>
#include <seqpar/core/operation.hpp>
#include <seqpar/core/workspace.hpp>
#include <seqpar/decode/kv_cache.hpp>
#include <seqpar/decode/step_check.hpp>
#include <seqpar/decode/step_cost.hpp>
#include <seqpar/score/parts.hpp>
#include <seqpar/strategy/merge_results.hpp>
#include <seqpar/strategy/passes.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
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

/// What a step returns, the same bits on every rank: out [batch, rows, heads, head_dim of v] and lse [batch, rows, heads,
/// 1], natural logarithm, in the accumulation type; without options::lse, lse has no rows.
template <real_element T>
struct decoded {
    tensor<T> out;
    tensor<accumulator_t<T>> lse;
};

namespace detail {

template <class P>
inline constexpr bool is_decode_policy =
    is_policy<P, communicator_kind> || is_policy<P, score_kind> || is_policy<P, kernel_kind> ||
    is_policy<P, executor_kind> || is_policy<P, options_kind>;

/// Fails to compile, and names the type in doing so.
template <class NotAPolicy>
struct must_be_a_decode_policy {
    static_assert(is_decode_policy<NotAPolicy>,
                  "decode<...> was given a type that it does not take: it takes a communicator, a score, a kernel, an "
                  "executor and options; the layout is the cache's");
    static constexpr bool value = true;
};

} // namespace detail

/// Attention of a few new queries to a cache of many keys that is sharded over ranks: the last rows of attention over each
/// whole sequence, without the rows before. K and V stay where they are; each rank attends to its own keys, and the ranks'
/// softmaxes are merged by recursive doubling (the tree of Shyam et al. 2024, arXiv:2408.04093).
///
///     kv_cache<float> cache{world, {.batch = 1, .kv_heads = 2, .dim = 64, .dim_v = 64}};
///     decode attend{world, causal{}};
///     cache.append(k, v);                        // of the new tokens, the same on every rank
///     auto [out, lse] = attend.step(q, cache);   // of the same tokens
///
/// Policies, in any order: communicator (default self_communicator), score (full), kernel (flash), executor
/// (inline_executor), options. Of options::check, all_ranks is the level of the first step, and of the first after
/// check_all_ranks(); in later steps each rank checks its own, so a loop pays for it once. Not copyable: it holds its own
/// duplicate of the communicator.
template <class... Policies>
class decode {
    static_assert((detail::must_be_a_decode_policy<Policies>::value && ...));
    template <class Kind>
    static constexpr bool at_most_one = detail::count_of<Kind, Policies...> <= 1;
    static_assert(at_most_one<detail::communicator_kind>, "decode<...> was given two communicators");
    static_assert(at_most_one<detail::score_kind>, "decode<...> was given two scores: compose them with &");
    static_assert(at_most_one<detail::kernel_kind>, "decode<...> was given two kernels");
    static_assert(at_most_one<detail::executor_kind>, "decode<...> was given two executors");
    static_assert(at_most_one<detail::options_kind>, "decode<...> was given options twice");

public:
    using communicator_type = detail::pick_t<detail::communicator_kind, Policies...>;
    using score_type = detail::pick_t<detail::score_kind, Policies...>;
    using kernel_type = detail::pick_t<detail::kernel_kind, Policies...>;
    using executor_type = detail::pick_t<detail::executor_kind, Policies...>;

    /// Values of policies; those that are left out are default-made. Collective over the communicator's ranks.
    /// @throws refusal, on every rank, if the ranks' policies differ or the score's parameters make no sense
    template <class... Given>
        requires(detail::is_decode_policy<Given>&&...)
    explicit decode(Given... given) : decode(from{}, std::tuple<Given...>(std::move(given)...)) {}

    decode(const decode&) = delete;
    decode& operator=(const decode&) = delete;

    /// Rows [0, counts[b]) of q [batch, rows, heads, head_dim] are the queries of the last counts[b] tokens of sequence b,
    /// which have been appended; without counts, all rows. Collective.
    ///
    /// Positions are those of the whole sequence, in the frame lengths{length, length}: causal{} means what it means in
    /// prefill, whatever its alignment, and so do windows, ALiBi and the rest. Rows beyond counts[b], and those of an empty
    /// sequence, see nothing: out = 0 and lse = -inf, or the sink.
    ///
    /// @pre q and counts are the same on every rank, and every rank has changed its cache in the same way
    /// @pre q's batch and head_dim are those of the cache, heads a multiple of its kv_heads; counts[b] is at most q's rows
    ///      and the sequence's length
    /// @throws refusal if not, before any payload is sent: on every rank in a step that checks all ranks
    /// Cost: predict().
    template <real_element T, layout L>
    [[nodiscard]] decoded<T> step(const std::type_identity_t<tensor_view<const T>>& q, const kv_cache<T, L>& cache,
                                  std::span<const index_t> counts = {}) {
        return detail::named_operation("decode step", [&] { return take_step(q, cache, counts); });
    }

    /// Checks all ranks again in the next step, if options::check says so at all. To be called by every rank.
    void check_all_ranks() noexcept { checked_ = false; }

    /// What a step of `rows` queries of `heads` heads costs the rank whose cache this is: exact, and without communication.
    /// Its memory is what options::memory gives at most at once; out and lse are the caller's.
    /// @throws refusal if the rank itself would refuse such a step
    template <real_element T, layout L>
    [[nodiscard]] plan::cost predict(const kv_cache<T, L>& cache, index_t heads, index_t rows,
                                     std::span<const index_t> counts = {}) const {
        using E = kernel_element_t<kernel_type, T>;
        using A = accumulator_t<E>;
        const cache_shape& s = cache.shape();
        const std::vector<index_t> all_rows(static_cast<std::size_t>(s.batch), rows);
        if (counts.empty()) counts = all_rows;
        const detail::call step = call_of({s.batch, rows, heads, s.dim}, cache);
        if (const std::string trouble = trouble_with(step, cache, counts); !trouble.empty()) throw refusal(trouble);
        std::size_t computing = 0;
        for (index_t b = 0; b < s.batch; ++b) {
            const index_t count = std::min(counts[static_cast<std::size_t>(b)], cache.length(b));
            const positions keys = cache.held_by(cache.rank(), b);
            computing =
                std::max(computing,
                         partial<A>::bytes({1, count, heads, s.dim_v}) +
                             kernel_.template workspace_bytes<E>({1, count, heads, s.dim}, {1, 0, s.kv_heads, s.dim_v},
                                                                 std::span(&keys, 1), executor_.workers()));
        }
        const std::size_t asked = static_cast<std::size_t>(s.batch * rows * heads),
                          merging = partial<A>::bytes({s.batch, rows, heads, s.dim_v});
        return plan::decode_step_cost(cache.size(), cache.rank(), asked, s.dim_v, sizeof(A), computing, merging,
                                      merging + detail::passes<E, T>::forward_bytes(asked, options_.lse));
    }

    [[nodiscard]] communicator_type& comm() noexcept { return comm_; }
    [[nodiscard]] const score_type& score() const noexcept { return score_; }
    /// "decode, causal(top-left), flash"
    [[nodiscard]] std::string name() const { return "decode, " + score_.name() + ", " + kernel_.name(); }

private:
    struct from {};

    template <class... Given>
    decode(from, const std::tuple<Given...>& given)
        : score_(detail::choose<detail::score_kind, score_type>(given)),
          kernel_(detail::choose<detail::kernel_kind, kernel_type>(given)),
          executor_(detail::choose<detail::executor_kind, executor_type>(given)),
          options_(detail::choose<detail::options_kind, options>(given)), comm_(detail::named_operation("decode", [&] {
              return own(detail::choose<detail::communicator_kind, communicator_type>(given));
          })) {}

    /// A duplicate of the communicator, once all ranks agree on what it is for.
    [[nodiscard]] communicator_type own(communicator_type given) const {
        [[maybe_unused]] const auto named = detail::announce(given, "preflight");
        detail::call mine;
        mine.scheme.identify(name());
        detail::describe(options_, mine);
        try {
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

    template <real_element T, layout L>
    [[nodiscard]] decoded<T> take_step(const tensor_view<const T>& q, const kv_cache<T, L>& cache,
                                       std::span<const index_t> counts) {
        using E = kernel_element_t<kernel_type, T>;
        using A = accumulator_t<E>;
        const extents e = q.shape(), shape{e.batch, e.seq, e.heads, cache.shape().dim_v};
        const std::vector<index_t> all_rows(static_cast<std::size_t>(e.batch), e.seq);
        if (counts.empty()) counts = all_rows;
        check(q, cache, counts);

        softmax_result<A> mine(shape, memory());
        for (index_t b = 0; b < e.batch; ++b) attend<E>(q, cache, b, counts[static_cast<std::size_t>(b)], mine);
        all_reduce_results(comm_, mine, memory());

        using user = accumulator_t<T>;
        decoded<T> result{tensor<T>(shape),
                          tensor<user>({e.batch, options_.lse ? e.seq : 0, e.heads, 1}, format::bhsd)};
        std::optional<detail::computed_in<user, A>> lse;
        if (options_.lse) lse.emplace(result.lse.view(), memory());
        partial<A> seen(shape, memory());
        seen.merge(mine.out, mine.lse);
        const operands<E> x{{}, {}, {}, viewed_as<E>(result.out.view()), lse ? lse->view() : tensor_view<A>{}};
        local(0, 0, e.dim, 1).template finish<E>(seen, origin{{}, {0, e.heads}}, x);
        if (lse) lse->finish();
        return result;
    }

    /// What a step of q [batch, rows, heads, head_dim] asks of this rank.
    template <real_element T, layout L>
    [[nodiscard]] detail::call call_of(const extents& q, const kv_cache<T, L>& cache) const {
        const cache_shape& s = cache.shape();
        detail::call c;
        c.q = q;
        c.k = {s.batch, 0, s.kv_heads, s.dim};
        c.v = {s.batch, 0, s.kv_heads, s.dim_v};
        c.scale = scale(q.dim);
        detail::describe(options_, c);
        c.element = element_traits<T>::name;
        c.scheme.identify(name() + ", " + cache.layout().name());
        return c;
    }

    /// What is wrong with it, without a look at other ranks; empty if nothing is.
    template <real_element T, layout L>
    [[nodiscard]] std::string trouble_with(const detail::call& c, const kv_cache<T, L>& cache,
                                           std::span<const index_t> counts) const {
        if (std::string trouble = detail::step_trouble(c, cache, counts, comm_.rank(), comm_.size()); !trouble.empty())
            return trouble;
        try {
            for (index_t b = 0; b < c.q.batch; ++b)
                if (const index_t n = cache.length(b); n > 0)
                    check_score(score_, attention_shape{c.q.batch, n, n, c.q.heads, c.k.heads, c.q.dim, c.v.dim});
        } catch (const refusal& why) {
            return why.what();
        }
        return {};
    }

    template <real_element T, layout L>
    void check(const tensor_view<const T>& q, const kv_cache<T, L>& cache, std::span<const index_t> counts) {
        if (options_.check == check_level::none) return;
        detail::step_call mine;
        mine.attention = call_of(q.shape(), cache);
        mine.attention.trouble = trouble_with(mine.attention, cache, counts);
        if (checked_ || options_.check == check_level::own_rank) {
            detail::refuse_trouble(std::span(&mine.attention, 1));
            return;
        }
        mine.changes = cache.history();
        mine.queries = detail::hash_of(q, counts);
        mine.lengths = detail::lengths_of(cache);
        [[maybe_unused]] const auto named = detail::announce(comm_, "preflight");
        detail::refuse_steps(collective::roll_call(comm_, mine, options_.patience));
        checked_ = true;
    }

    /// Writes the softmax of one sequence's queries over this rank's keys to its place in `into`.
    template <real_element E, real_element T, layout L, class A = accumulator_t<E>>
    void attend(const tensor_view<const T>& q, const kv_cache<T, L>& cache, index_t b, index_t count,
                softmax_result<A>& into) const {
        const extents& e = q.shape();
        const index_t length = cache.length(b), asked = std::min(count, length), first = count - asked;
        const auto one = [b](const auto& x) { // [batch, rows, ...] -> [1, rows, ...]
            const extents& of = x.shape();
            return std::remove_cvref_t<decltype(x)>(of.count() == 0 ? nullptr : x.at(b, 0, 0),
                                                    {1, of.seq, of.heads, of.dim}, x.step());
        };
        const tensor_view<A> out = one(into.out), lse = one(into.lse);
        clear(out);
        for (index_t i = 0; i < e.seq; ++i)
            for (index_t h = 0; h < e.heads; ++h) lse(0, i, h) = partial<A>::nothing;

        const origin queries{{run{position(length - asked), 1, asked}}, {0, e.heads}},
            keys{cache.held_by(cache.rank(), b), {0, cache.shape().kv_heads}};
        const key_block<E> own{viewed_as<const E>(cache.k(b)), viewed_as<const E>(cache.v(b)), keys};
        partial<A> seen({1, asked, e.heads, cache.shape().dim_v}, memory());
        nothing travelling;
        local(length, b, e.dim, e.heads / cache.shape().kv_heads)
            .template fold<E>(block<const E>{viewed_as<const E>(one(q).rows(first, asked)), queries},
                              std::span(&own, 1), seen, travelling);
        seen.finish(out.rows(first, asked), lse.rows(first, asked));
    }

    /// For sequence b, of that length.
    [[nodiscard]] local_attention<kernel_type, score_type> local(index_t length, index_t b, index_t dim,
                                                                 index_t group) const {
        context how;
        how.scale = scale(dim);
        how.n = {length, length};
        how.first_batch = b;
        how.group = group;
        how.executor = executor_ref(executor_);
        how.memory = memory();
        return {kernel_, score_, how};
    }

    [[nodiscard]] double scale(index_t dim) const {
        return options_.scale.value_or(1 / std::sqrt(static_cast<double>(dim)));
    }
    [[nodiscard]] std::pmr::memory_resource* memory() const noexcept {
        return options_.memory != nullptr ? options_.memory : workspace_.get();
    }

    score_type score_;
    kernel_type kernel_;
    executor_type executor_;
    options options_;
    std::shared_ptr<workspace> workspace_ = std::make_shared<workspace>();
    communicator_type comm_;
    bool checked_ = false;
};

/// The policies' types from their values.
template <class... Given>
decode(Given...) -> decode<Given...>;

} // namespace seqpar
