/// @file
/// What the tests of scores that change values share: small models of such scores, and attention and its gradients
/// written from their definition, with the error that a kernel may make.
#pragma once

#include "kernel/attention_case.hpp"
#include "kernel/gradient_case.hpp"

#include <seqpar/core/mixed.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/parts.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/score/softcap.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace kernel_test {

/// A number in [0, 1) for a pair, from its coordinates in the whole.
[[nodiscard]] inline double noise(std::uint64_t seed, const score_row& row, std::size_t j) {
    std::uint64_t hash = mixed(seed, static_cast<std::uint64_t>(row.batch));
    for (const index_t x : {row.head, row.n.first_query.value + row.query.value,
                            row.n.first_key.value + row.keys[static_cast<index_t>(j)].value})
        hash = mixed(hash, static_cast<std::uint64_t>(x));
    return static_cast<double>(hash >> 11) * 0x1p-53;
}

/// Adds a random number between -2 and 2, and hides a part of the keys.
struct random_bias : full {
    double hidden;

    explicit random_bias(double part_hidden = 0) : hidden(part_hidden) {}
    [[nodiscard]] score_stages stages() const { return bit(score_stage::bias); }
    template <class E>
    void modify(score_stage, const score_row& row, std::span<E> x, std::span<E>) const {
        for (std::size_t j = 0; j < x.size(); ++j) {
            const bool hides = noise(1, row, j) < hidden;
            x[j] = hides ? -std::numeric_limits<E>::infinity() : x[j] + static_cast<E>(4 * noise(2, row, j) - 2);
        }
    }
    [[nodiscard]] std::string name() const { return detail::concat("random_bias(", hidden, ')'); }
};
static_assert(score<random_bias>);

/// Drops a part of the weights.
struct random_drop : full {
    double rate;

    explicit random_drop(double part) : rate(part) {}
    [[nodiscard]] bool drops() const { return true; }
    template <class E>
    void drop(const score_row& row, std::span<E> z) const {
        for (std::size_t j = 0; j < z.size(); ++j)
            z[j] = noise(3, row, j) < rate ? E{} : static_cast<E>(1 / (1 - rate));
    }
    [[nodiscard]] std::string name() const { return detail::concat("random_drop(", rate, ')'); }
};
static_assert(score<random_drop>);

/// A function: x + sin(x) / 2.
struct wave : full {
    [[nodiscard]] score_stages stages() const { return bit(score_stage::function); }
    template <class E>
    void modify(score_stage, const score_row&, std::span<E> x, std::span<E> slope) const {
        for (std::size_t j = 0; j < x.size(); ++j) {
            if (!slope.empty()) slope[j] *= 1 + std::cos(x[j]) / 2;
            x[j] += std::sin(x[j]) / 2;
        }
    }
    [[nodiscard]] std::string name() const { return "wave"; }
};
static_assert(score<wave>);

inline constexpr std::size_t changed_scores_count = 12;

/// Scores that change values, alone and composed. `rows` and `keys`: of the attention, for documents.
[[nodiscard]] inline any_score changed_score(std::size_t which, const sizes& n) {
    const documents<> packed({0, n.rows / 3, n.rows / 3, n.rows * 4 / 5}, {0, n.keys / 2, n.keys / 2, n.keys});
    const alibi slopes = alibi::geometric(n.heads, alignment::bottom_right());
    switch (which) {
    case 0:
        return softcap{0.9};
    case 1:
        return slopes;
    case 2:
        return random_bias{};
    case 3:
        return random_drop{0.3};
    case 4:
        return wave{};
    case 5:
        return random_bias{0.4};
    case 6:
        return causal{alignment::bottom_right()} & softcap{2};
    case 7:
        return sliding_window{30, 9} & random_bias{0.5} & random_drop{0.5};
    case 8:
        return packed & causal{} & softcap{1.5} & slopes;
    case 9:
        return packed & random_bias{0.1} & random_drop{0.2};
    case 10:
        return wave{} & softcap{3} & slopes & random_bias{0.2} & random_drop{0.1};
    default:
        return causal{alignment::at(-5)} & slopes & random_drop{0.4};
    }
}

/// An attention, what it and its gradients are, and what a kernel may be off by. Of a score and its derivative:
///
///     s   = scale q . k                 |d s|  = gamma(d + 2) |scale| |q| . |k|
///     x   = score(s)                    |d x|  = |score(s +- d s) - x| + 4u (|s| + |x| + |x - s|)
///     f'                                |d f'| = |f'(s +- d s) - f'| + 8u
///
/// and then, with eps = |d x| + u |x - max|, alpha = gamma(keys) + 4 merges u + 6u and eta = |d x| + u |x - lse| +
/// 3u |lse| + 4u:
///
///     |d out| = sum P (eps + 10 ln 2 u + 4u) (z |v| + |out|) + alpha (sum P z |v| + |out|)
///     |d lse| = sum P (eps + 10 ln 2 u + 4u) + alpha + 2u |lse|
///     |d dS|  = P ((eta + 4u) |z dP - delta| + z (gamma(dv) + u) |dout| . |v| + 2u |delta|)
///     |d w|   = |f'| |d dS| + |d f'| |dS|                                                          w = f' dS
///     |d dq|  = |scale| sum (|d w| + (gamma(keys) + 5u) |w|) |k|
///     |d dk|  = |scale| sum (|d w| + (gamma(g rows) + 5u) |w|) |q|
///     |d dv|  = sum z P (eta + gamma(g rows) + 4u) |dout|
///
/// with gamma(x) = sqrt(x) u. lse and delta are given to backward, rounded. A P below the smallest normal number may be 0.
template <class T>
struct changed_attention : attention_input<T> {
    using A = accumulator_t<T>;

    struct result {
        std::vector<double> want, bound;

        void resize(index_t count) {
            want.assign(static_cast<std::size_t>(count), 0);
            bound.assign(static_cast<std::size_t>(count), 0);
        }
        void add(std::size_t at, double value, double error) { want[at] += value, bound[at] += error; }
    };

    context how;
    any_score score;
    input<T> dout;
    input<double> dlse;
    tensor<A> lse_given, delta;
    result out, lse, dq, dk, dv, slopes;
    double worst = 0; ///< of what was judged: error / bound

    changed_attention(const sizes& e, const any_score& s, unsigned seed = 1, memory_order order = memory_order::bshd,
                      double spread = 1, int merges = 4)
        : attention_input<T>(e, seed, order, spread), how(this->attention_input<T>::how()), score(s),
          dout(e.out(), order, 5 * seed + 2), dlse({e.batch, e.rows, e.heads, 1}, order, 7 * seed + 3),
          lse_given({e.batch, e.rows, e.heads, 1}), delta({e.batch, e.rows, e.heads, 1}) {
        out.resize(e.out().count()), lse.resize(delta.shape().count());
        dq.resize(e.q().count()), dk.resize(e.k().count()), dv.resize(e.v().count()), slopes.resize(e.heads);
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t h = 0; h < e.heads; ++h)
                for (index_t i = 0; i < e.rows; ++i) define_row(b, h, i, merges);
    }

    [[nodiscard]] row_gradients<T> of_rows() const { return {dout.view(), lse_given.view(), delta.view()}; }

    /// Whether every element of a forward result is within its bound; the first that is not in `why`.
    [[nodiscard]] bool accepts(const partial<A>& got, std::string& why) {
        tensor<A> o(got.shape()), l(delta.shape());
        got.finish(o.view(), l.view());
        return within("out", o.data(), out, why) && within("lse", l.data(), lse, why);
    }
    [[nodiscard]] bool accepts(const gradients<A>& got, const std::vector<binned_sum>& slope_gradients,
                               std::string& why) {
        return within("dq", got.dq.data(), dq, why) && within("dk", got.dk.data(), dk, why) &&
               within("dv", got.dv.data(), dv, why) && within("dslope", slope_gradients.data(), slopes, why);
    }

private:
    static std::size_t size(index_t n) { return static_cast<std::size_t>(n); }
    static std::size_t offset(const extents& e, index_t b, index_t i, index_t h) {
        return size(((b * e.seq + i) * e.heads + h) * e.dim);
    }
    static double gamma(index_t n) { return std::sqrt(static_cast<double>(n)) * element_traits<A>::roundoff; }

    template <class X>
    [[nodiscard]] bool within(const char* what, const X* got, const result& r, std::string& why) {
        for (std::size_t i = 0; i < r.want.size(); ++i) {
            const double x = static_cast<double>(got[i]), y = r.want[i];
            if (x == y) continue; // infinities among them
            if (const double error = std::abs(x - y); error <= r.bound[i]) {
                worst = std::max(worst, error / r.bound[i]);
                continue;
            }
            why = detail::concat(what, '[', i, "] = ", x, " and not ", y, ": off by ", std::abs(x - y), ", allowed ",
                                 r.bound[i]);
            return false;
        }
        return true;
    }

    void define_row(index_t b, index_t h, index_t i, int merges) {
        const sizes& e = this->n;
        const double u = element_traits<A>::roundoff, inf = std::numeric_limits<double>::infinity();
        const double tiny = static_cast<double>(std::numeric_limits<A>::min());
        const index_t g = h / how.group;
        const run all{position{0}, 1, e.keys};
        const interval seen = score.visible(how.n, position{i}, all) & interval{0, e.keys};
        const std::size_t row = offset(delta.shape(), b, i, h), keys = seen.empty() ? 0 : size(seen.last - seen.first);
        const auto q_of = [&](index_t d) { return static_cast<double>(this->q(b, i, h, d)); };
        const auto key_of = [&](std::size_t j, index_t d) {
            return static_cast<double>(this->k(b, seen.first + static_cast<index_t>(j), g, d));
        };
        const auto value_of = [&](std::size_t j, index_t d) {
            return static_cast<double>(this->v(b, seen.first + static_cast<index_t>(j), g, d));
        };
        std::vector<double> s(keys), ds(keys), x, up(keys), down(keys), slope(keys, 1), slope_up(keys, 1),
            slope_down(keys, 1), z(keys, 1), p(keys), dx(keys), dslope(keys);
        for (std::size_t j = 0; j < keys; ++j) {
            for (index_t d = 0; d < e.dim; ++d)
                s[j] += how.scale * q_of(d) * key_of(j, d), ds[j] += std::abs(how.scale * q_of(d) * key_of(j, d));
            ds[j] *= gamma(e.dim + 2);
            up[j] = s[j] + ds[j], down[j] = s[j] - ds[j];
        }
        x = s;
        const score_row at{how.n, b, h, position{i}, run{all[seen.first], 1, static_cast<index_t>(keys)}};
        if (keys > 0) {
            modify(score, at, std::span<double>(x), std::span<double>(slope));
            modify(score, at, std::span<double>(up), std::span<double>(slope_up));
            modify(score, at, std::span<double>(down), std::span<double>(slope_down));
            if (drops(score)) drop(score, at, std::span<double>(z));
        }
        double max = -inf, sum = 0;
        for (std::size_t j = 0; j < keys; ++j) max = std::max(max, x[j]);
        for (std::size_t j = 0; j < keys; ++j)
            if (x[j] != -inf) sum += std::exp(x[j] - max);
        const bool blind = sum == 0;
        const double log_sum = blind ? -inf : max + std::log(sum);
        lse.want[row] = log_sum, lse_given.data()[row] = static_cast<A>(log_sum);
        const double alpha = gamma(e.keys) + 4 * merges * u + 6 * u;
        const std::size_t o = offset(e.out(), b, i, h);
        double mean_eps = 0, row_delta = -dlse.view()(b, i, h, 0);
        std::vector<double> out_size(size(e.dim_v));
        for (std::size_t j = 0; j < keys; ++j) {
            if (x[j] == -inf) continue;
            p[j] = std::exp(x[j] - log_sum);
            dx[j] = std::max(std::abs(up[j] - x[j]), std::abs(down[j] - x[j])) +
                    4 * u * (std::abs(s[j]) + std::abs(x[j]) + std::abs(x[j] - s[j]));
            dslope[j] = std::max(std::abs(slope_up[j] - slope[j]), std::abs(slope_down[j] - slope[j])) + 8 * u;
            for (index_t d = 0; d < e.dim_v; ++d) {
                out.want[o + size(d)] += z[j] * p[j] * value_of(j, d);
                out_size[size(d)] += z[j] * p[j] * std::abs(value_of(j, d));
            }
        }
        for (std::size_t j = 0; j < keys; ++j) {
            if (x[j] == -inf) continue;
            const double err = dx[j] + u * (std::abs(x[j] - max) + 10 * std::numbers::ln2) + 4 * u;
            mean_eps += p[j] * err;
            for (index_t d = 0; d < e.dim_v; ++d)
                out.bound[o + size(d)] +=
                    p[j] * err * (z[j] * std::abs(value_of(j, d)) + std::abs(out.want[o + size(d)]));
        }
        for (index_t d = 0; d < e.dim_v; ++d) {
            out.bound[o + size(d)] += alpha * (out_size[size(d)] + std::abs(out.want[o + size(d)]));
            row_delta += static_cast<double>(dout(b, i, h, d)) * out.want[o + size(d)];
        }
        lse.bound[row] = blind ? 0 : mean_eps + alpha + 2 * u * std::abs(log_sum);
        delta.data()[row] = static_cast<A>(row_delta);

        std::vector<double> all_ds(keys), all_bounds(keys), all_sizes(keys);
        for (std::size_t j = 0; j < keys; ++j) {
            if (x[j] == -inf) continue;
            double dp = 0, dp_size = 0;
            for (index_t d = 0; d < e.dim_v; ++d) {
                const double one = static_cast<double>(dout(b, i, h, d)) * value_of(j, d);
                dp += one, dp_size += std::abs(one);
            }
            const double rest = z[j] * dp - row_delta;
            const double eta = dx[j] + u * std::abs(x[j] - log_sum) + 3 * u * std::abs(log_sum) + 4 * u;
            all_ds[j] = p[j] * rest;
            all_bounds[j] = p[j] * ((eta + 4 * u) * std::abs(rest) + z[j] * (gamma(e.dim_v) + u) * dp_size +
                                    2 * u * std::abs(row_delta)) +
                            tiny * std::abs(rest);
            all_sizes[j] = std::abs(all_ds[j]);
            const double w = slope[j] * all_ds[j], dw = std::abs(slope[j]) * all_bounds[j] + dslope[j] * all_sizes[j];
            const index_t key = seen.first + static_cast<index_t>(j), rows = how.group * e.rows;
            const std::size_t to_k = offset(e.k(), b, key, g), to_v = offset(e.v(), b, key, g),
                              to_q = offset(e.q(), b, i, h);
            for (index_t d = 0; d < e.dim; ++d) {
                dq.add(to_q + size(d), how.scale * w * key_of(j, d),
                       std::abs(how.scale * key_of(j, d)) * (dw + (gamma(e.keys) + 5 * u) * std::abs(w)));
                dk.add(to_k + size(d), how.scale * w * q_of(d),
                       std::abs(how.scale * q_of(d)) * (dw + (gamma(rows) + 5 * u) * std::abs(w)));
            }
            for (index_t d = 0; d < e.dim_v; ++d) {
                const double one = static_cast<double>(dout(b, i, h, d));
                dv.add(to_v + size(d), z[j] * p[j] * one,
                       std::abs(one) * z[j] * (p[j] * (eta + gamma(rows) + 4 * u) + tiny));
            }
        }
        if (keys == 0 || slopes_of(score) == 0) return;
        const auto by_slope = [&](const std::vector<double>& of) {
            return slope_gradient(score, at, std::span<const double>(of));
        };
        slopes.add(size(h), by_slope(all_ds), std::abs(by_slope(all_bounds)) + 8 * u * std::abs(by_slope(all_sizes)));
    }
};

/// The gradients by one kernel, keys in one block.
template <class K, class T>
[[nodiscard]] gradients<accumulator_t<T>> differentiate(const K& kernel, const context& how,
                                                        const changed_attention<T>& in,
                                                        std::vector<binned_sum>& slope_gradients) {
    using A = accumulator_t<T>;
    gradients<A> result(in.n);
    slope_gradients.assign(static_cast<std::size_t>(in.n.heads), binned_sum{});
    context with_slopes = how;
    with_slopes.slope_gradients = slope_gradients;
    const origin rows = in.rows(), keys = in.keys();
    const key_block<T> block_of_keys{in.k.view(), in.v.view(), keys};
    const key_gradients<A> of_keys{result.dk.view(), result.dv.view()};
    kernel.backward(with_slopes, block<const T>{in.q.view(), rows}, in.of_rows(),
                    std::span<const key_block<T>>(&block_of_keys, 1), in.score, result.dq.view(),
                    std::span<const key_gradients<A>>(&of_keys, 1));
    return result;
}

/// Whether a row sees a key, as the score says it with values too; and the same of a weight that is not dropped.
[[nodiscard]] inline bool sees_key(const context& how, const any_score& s, index_t b, index_t h, index_t i, index_t j) {
    const run key{position{j}, 1, 1};
    if (s.visible(how.n, position{i}, key).empty()) return false;
    double x = 0.5;
    modify(s, score_row{how.n, b, h, position{i}, key}, std::span<double>(&x, 1));
    return x != -std::numeric_limits<double>::infinity();
}
[[nodiscard]] inline bool keeps_key(const context& how, const any_score& s, index_t b, index_t h, index_t i,
                                    index_t j) {
    double z = 1;
    if (drops(s)) drop(s, score_row{how.n, b, h, position{i}, run{position{j}, 1, 1}}, std::span<double>(&z, 1));
    return z != 0 && sees_key(how, s, b, h, i, j);
}

} // namespace kernel_test
