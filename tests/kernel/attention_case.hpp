/// @file
/// What the kernel tests share: random input, and the definition in double with the error that a kernel may make.
#pragma once

#include <support/targets.hpp>

#include <seqpar/core/executor.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/any_score.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace kernel_test {

using namespace seqpar;
using testing::targets;

/// Sizes of one attention.
struct sizes {
    index_t batch = 1, rows = 1, keys = 1, heads = 1, kv_heads = 1, dim = 1, dim_v = 1;

    [[nodiscard]] extents q() const { return {batch, rows, heads, dim}; }
    [[nodiscard]] extents k() const { return {batch, keys, kv_heads, dim}; }
    [[nodiscard]] extents v() const { return {batch, keys, kv_heads, dim_v}; }
    [[nodiscard]] extents out() const { return {batch, rows, heads, dim_v}; }
    [[nodiscard]] std::string text() const {
        return detail::concat("batch ", batch, " rows ", rows, " keys ", keys, " heads ", heads, '/', kv_heads,
                              " head_dim ", dim, '/', dim_v);
    }
};

/// Normal random elements, the same for the same seed.
template <class T>
void randomise(const tensor_view<T>& to, unsigned seed, double spread = 1) {
    std::mt19937 bits(seed);
    std::normal_distribution<double> normal(0, spread);
    const extents& e = to.shape();
    for (index_t b = 0; b < e.batch; ++b)
        for (index_t s = 0; s < e.seq; ++s)
            for (index_t h = 0; h < e.heads; ++h)
                for (index_t d = 0; d < e.dim; ++d) to(b, s, h, d) = static_cast<T>(static_cast<float>(normal(bits)));
}

/// How a tensor lies in memory: both formats, and one whose head_dim is not contiguous.
enum class memory_order { bshd, bhsd, dim_first };

/// An owner whose view may have strides of any order.
template <class T>
class input {
public:
    input(const extents& e, memory_order order, unsigned seed, double spread = 1)
        : storage_(order == memory_order::dim_first ? extents{e.dim, e.batch, e.seq, e.heads} : e,
                   order == memory_order::bhsd ? format::bhsd : format::bshd) {
        const strides s = storage_.view().step();
        view_ = order == memory_order::dim_first
                    ? tensor_view<T>(storage_.data(), e, strides{s.seq, s.heads, s.dim, s.batch})
                    : storage_.view();
        randomise(view_, seed, spread);
    }

    [[nodiscard]] const tensor_view<T>& view() const { return view_; }
    [[nodiscard]] T& operator()(index_t b, index_t s, index_t h, index_t d) const { return view_(b, s, h, d); }

private:
    tensor<T> storage_;
    tensor_view<T> view_;
};

/// q, k, v of one attention.
template <class T>
struct attention_input {
    sizes n;
    input<T> q, k, v;

    explicit attention_input(const sizes& shape, unsigned seed = 1, memory_order order = memory_order::bshd,
                             double spread = 1)
        : n(shape), q(shape.q(), order, 3 * seed, spread), k(shape.k(), order, 3 * seed + 1, spread),
          v(shape.v(), order, 3 * seed + 2) {}

    [[nodiscard]] context how() const {
        context c;
        c.scale = 1 / std::sqrt(static_cast<double>(n.dim));
        c.n = {n.rows, n.keys};
        c.group = n.heads / n.kv_heads;
        return c;
    }
    [[nodiscard]] origin rows() const { return {positions::whole(n.rows), {0, n.heads}}; }
    [[nodiscard]] origin keys() const { return {positions::whole(n.keys), {0, n.kv_heads}}; }
};

/// The rows of a tensor that lie at `at`: a shard.
template <class T>
[[nodiscard]] tensor<T> take_rows(const tensor_view<T>& from, const positions& at) {
    extents e = from.shape();
    e.seq = at.size();
    tensor<T> part(e);
    const tensor_view<T> to = part.view();
    for (index_t i = 0; i < e.seq; ++i) copy(tensor_view<const T>(from.rows(at[i].value, 1)), to.rows(i, 1));
    return part;
}

/// The whole attention by one kernel, keys in one block.
template <class K, class T>
[[nodiscard]] partial<accumulator_t<T>> attend(const K& kernel, const context& how, const attention_input<T>& in,
                                               const any_score& score) {
    partial<accumulator_t<T>> result(in.n.out());
    const origin rows = in.rows(), keys = in.keys();
    const key_block<T> block_of_keys{in.k.view(), in.v.view(), keys};
    kernel.forward(how, block<const T>{in.q.view(), rows}, std::span<const key_block<T>>(&block_of_keys, 1), score,
                   result);
    return result;
}

/// The whole attention by one kernel, keys as a list of blocks, one for each rank of a layout.
template <class K, class T, class L>
[[nodiscard]] partial<accumulator_t<T>> attend_sharded(const K& kernel, const context& how,
                                                       const attention_input<T>& in, const any_score& score,
                                                       const L& layout, int size) {
    partial<accumulator_t<T>> result(in.n.out());
    const origin rows = in.rows();
    std::vector<origin> at;
    std::vector<tensor<T>> k, v;
    for (int rank = 0; rank < size; ++rank) {
        at.push_back({layout.positions(rank, size, in.n.keys), {0, in.n.kv_heads}});
        k.push_back(take_rows(in.k.view(), at.back().rows));
        v.push_back(take_rows(in.v.view(), at.back().rows));
    }
    std::vector<key_block<T>> blocks;
    for (std::size_t i = 0; i < at.size(); ++i) blocks.push_back({k[i].view(), v[i].view(), at[i]});
    kernel.forward(how, block<const T>{in.q.view(), rows}, std::span<const key_block<T>>(blocks), score, result);
    return result;
}

template <class A>
[[nodiscard]] bool same_bits(const tensor_view<const A>& a, const tensor_view<const A>& b) {
    const extents& e = a.shape();
    if (e != b.shape()) return false;
    for (index_t i = 0; i < e.batch; ++i)
        for (index_t s = 0; s < e.seq; ++s)
            for (index_t h = 0; h < e.heads; ++h)
                if (std::memcmp(a.at(i, s, h), b.at(i, s, h), static_cast<std::size_t>(e.dim) * sizeof(A)) != 0)
                    return false;
    return true;
}

template <class A>
[[nodiscard]] bool same_bits(const partial<A>& a, const partial<A>& b) {
    return same_bits(a.acc(), b.acc()) && same_bits(a.max(), b.max()) && same_bits(a.sum(), b.sum());
}

/// The definition in double, and what each element may be off by:
///
///     eps_j  = gamma(d + 2) scale |q| . |k_j| + u (|s_j - max| + 10 ln 2) + 4u   of a score and its exponential
///     alpha  = gamma(keys) + 4 merges u + 4u                                     of a sum
///     |d out| <= sum P eps (|v| + |out|) + alpha (sum P |v| + |out|) + u_p sum P |v|,   |d lse| <= sum P eps + alpha + 2u |lse|
///
/// with gamma(x) = sqrt(x) u, u the accumulator's roundoff. The 10 ln 2 is the lazy reference of `flash`, 4u the
/// polynomial.
struct definition {
    tensor<double> out, lse, out_bound, lse_bound;
    double worst = 0; ///< of what was judged: error / bound

    template <class T>
    definition(const context& how, const attention_input<T>& in, const any_score& score, int merges = 4)
        : out(in.n.out()), lse({in.n.batch, in.n.rows, in.n.heads, 1}), out_bound(in.n.out()),
          lse_bound({in.n.batch, in.n.rows, in.n.heads, 1}) {
        attention_input<double> exact(sizes{0, 0, 0, 1, 1, 1, 1});
        exact.n = in.n;
        exact.q = widened(in.q.view());
        exact.k = widened(in.k.view());
        exact.v = widened(in.v.view());
        attend(reference{}, how, exact, score).finish(out.view(), lse.view());

        const double u = element_traits<accumulator_t<T>>::roundoff,
                     rounded = std::is_same_v<T, accumulator_t<T>> ? 0 : element_traits<T>::roundoff; // u_p, of weights
        const run all{position{0}, 1, in.n.keys};
        std::vector<double> s(static_cast<std::size_t>(in.n.keys)), eps(s.size());
        for (index_t b = 0; b < in.n.batch; ++b)
            for (index_t h = 0; h < in.n.heads; ++h)
                for (index_t i = 0; i < in.n.rows; ++i) {
                    const index_t g = h / how.group;
                    const interval seen = score.visible(how.n, position{i}, all);
                    double max = -std::numeric_limits<double>::infinity();
                    for (index_t j = seen.first; j < seen.last; ++j) {
                        double dot = 0, size = 0;
                        for (index_t d = 0; d < in.n.dim; ++d) {
                            const double product = how.scale * exact.q(b, i, h, d) * exact.k(b, j, g, d);
                            dot += product, size += std::abs(product);
                        }
                        s[static_cast<std::size_t>(j)] = dot;
                        eps[static_cast<std::size_t>(j)] = std::sqrt(static_cast<double>(in.n.dim + 2)) * u * size;
                        max = std::max(max, dot);
                    }
                    const double log_sum = lse(b, i, h);
                    const double alpha = std::sqrt(static_cast<double>(in.n.keys)) * u + 4 * merges * u + 4 * u;
                    double mean_eps = 0;
                    std::vector<double> size(static_cast<std::size_t>(in.n.dim_v)), bound(size.size());
                    for (index_t j = seen.first; j < seen.last; ++j) {
                        const std::size_t n = static_cast<std::size_t>(j);
                        const double p = std::exp(s[n] - log_sum);
                        const double e = eps[n] + u * (std::abs(s[n] - max) + 10 * std::numbers::ln2) + 4 * u;
                        mean_eps += p * e;
                        for (index_t d = 0; d < in.n.dim_v; ++d) {
                            const double value = std::abs(exact.v(b, j, g, d));
                            size[static_cast<std::size_t>(d)] += p * value;
                            bound[static_cast<std::size_t>(d)] += p * e * (value + std::abs(out(b, i, h, d)));
                        }
                    }
                    for (index_t d = 0; d < in.n.dim_v; ++d)
                        out_bound(b, i, h, d) =
                            bound[static_cast<std::size_t>(d)] +
                            alpha * (size[static_cast<std::size_t>(d)] + std::abs(out(b, i, h, d))) +
                            rounded * size[static_cast<std::size_t>(d)];
                    lse_bound(b, i, h) = seen.empty() ? 0 : mean_eps + alpha + 2 * u * std::abs(log_sum);
                }
    }

    /// Whether every element of a result is within its bound; the first that is not in `why`.
    template <class A>
    [[nodiscard]] bool accepts(const partial<A>& result, std::string& why) {
        tensor<A> o(result.shape()), l({result.shape().batch, result.shape().seq, result.shape().heads, 1});
        result.finish(o.view(), l.view());
        return within("out", o.view(), out.view(), out_bound.view(), why) &&
               within("lse", l.view(), lse.view(), lse_bound.view(), why);
    }

private:
    template <class T>
    [[nodiscard]] static input<double> widened(const tensor_view<T>& from) {
        input<double> to(from.shape(), memory_order::bshd, 0);
        copy(tensor_view<const T>(from), to.view());
        return to;
    }

    template <class A>
    [[nodiscard]] bool within(const char* what, const tensor_view<A>& got, const tensor_view<double>& want,
                              const tensor_view<double>& bound, std::string& why) {
        const extents& e = got.shape();
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                for (index_t h = 0; h < e.heads; ++h)
                    for (index_t d = 0; d < e.dim; ++d) {
                        const double x = static_cast<double>(got(b, i, h, d)), y = want(b, i, h, d);
                        if (x == y) continue; // infinities among them
                        const double error = std::abs(x - y), allowed = bound(b, i, h, d);
                        if (error <= allowed) {
                            worst = std::max(worst, error / allowed);
                            continue;
                        }
                        why = detail::concat(what, '(', b, ", ", i, ", ", h, ", ", d, ") = ", x, " and not ", y,
                                             ": off by ", error, ", allowed ", allowed);
                        return false;
                    }
        return true;
    }
};

} // namespace kernel_test
