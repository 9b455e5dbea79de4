/// @file
/// Backward of one scheme on one input, held to a definition that knows nothing of the library. For any communicator.
#pragma once

#include "naive_gradient.hpp"
#include "scheme_case.hpp"

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <type_traits>

namespace seqpar::testing {

/// An input, its gradients and what a computation on `ranks` ranks may be off by.
template <class T>
struct gradient_case {
    using A = accumulator_t<T>;

    attention_shape shape;
    any_layout layout;
    any_score score;
    bool with_dlse;
    double scale = 0.6;
    tensor<T> q, k, v, dout;
    tensor<double> dlse;
    naive_gradients expected;
    gradient_bounds bounds;

    /// `truth`: what the score does, where it does more than hide keys.
    gradient_case(const attention_shape& s, const any_layout& rows, const any_score& sees, bool into_lse, int ranks,
                  naive_score truth = {})
        : shape(s), layout(rows), score(sees), with_dlse(into_lse),
          q(normal<T>({s.batch, s.queries, s.heads, s.dim}, 1)), k(normal<T>({s.batch, s.keys, s.kv_heads, s.dim}, 2)),
          v(normal<T>({s.batch, s.keys, s.kv_heads, s.dim_v}, 3)),
          dout(normal<T>({s.batch, s.queries, s.heads, s.dim_v}, 4)),
          dlse(normal<double>({s.batch, s.queries, s.heads, 1}, 5)) {
        gradient_rounding rounding;
        rounding.u = element_traits<A>::roundoff;
        rounding.store = std::is_same_v<T, A> ? 0 : element_traits<T>::roundoff;
        rounding.out = element_traits<T>::roundoff;
        rounding.weight = rounding.store;
        rounding.merges = 2 * ranks;
        rounding.tiny = static_cast<double>(std::numeric_limits<A>::min());
        const lengths n{s.queries, s.keys};
        if (!truth.sees)
            truth.sees = [this, n](index_t i, index_t j) {
                return !score.visible(n, position(i), run{position(j), 1, 1}).empty();
            };
        naive_gradient<T>(q.view(), k.view(), v.view(), dout.view(),
                          with_dlse ? dlse.view() : tensor_view<const double>{}, scale, truth, rounding, expected,
                          bounds);
    }

    /// What is wrong with the gradients of a scheme on this rank; empty if nothing is. Collective.
    template <class Kernel, communicator C, class Strategy>
    [[nodiscard]] std::string trouble_with(C world, const Strategy& strategy, const Kernel& kernel, saving save) const {
        const int rank = world.rank(), size = world.size();
        const positions rows = layout.positions(rank, size, shape.queries),
                        keys = layout.positions(rank, size, shape.keys);
        const tensor<T> my_q = local_rows(q, rows), my_k = local_rows(k, keys), my_v = local_rows(v, keys),
                        my_dout = local_rows(dout, rows);
        tensor<A> my_dlse({shape.batch, rows.size(), shape.heads, 1});
        copy(local_rows(dlse, rows).view(), my_dlse.view());
        counted_memory memory;
        std::ostringstream trouble;
        {
            attention attend{world,
                             strategy,
                             kernel,
                             layout,
                             score,
                             span_backend<T>{},
                             options{.scale = scale, .save = save, .memory = &memory}};
            const auto fwd = attend.forward(my_q, my_k, my_v);
            const auto g = attend.backward(my_dout, fwd,
                                           with_dlse ? tensor_view<const A>(my_dlse.view()) : tensor_view<const A>{});
            compare(trouble, "out", fwd.out, rows, shape.queries, expected.out, bounds.out);
            compare_lse(trouble, fwd.lse, rows);
            compare_heads(trouble, "dsinks", g.dsinks, expected.dsinks, bounds.dsinks);
            compare_heads(trouble, "dslopes", g.dslopes, expected.dslopes, bounds.dslopes);
            compare(trouble, "dq", g.dq, rows, shape.queries, expected.dq, bounds.dq);
            compare(trouble, "dk", g.dk, keys, shape.keys, expected.dk, bounds.dk);
            compare(trouble, "dv", g.dv, keys, shape.keys, expected.dv, bounds.dv);
        }
        if (memory.held() != 0) trouble << "still holds " << memory.held() << " bytes\n";
        if (trouble.str().empty()) return {};
        return strategy.name() + ", " + layout.name() + ", " + score.name() + ", rank " + std::to_string(rank) +
               " of " + std::to_string(size) + (save == saving::keep ? ", keep" : ", resend") +
               (with_dlse ? ", dlse\n" : "\n") + trouble.str();
    }

private:
    static constexpr double doubt = std::is_same_v<A, double> ? 2 : 1; // long double rounds, too, next to double

    void compare_lse(std::ostream& trouble, const tensor<A>& mine, const positions& at) const {
        const extents e = mine.shape();
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                for (index_t h = 0; h < e.heads; ++h) {
                    const auto n = static_cast<std::size_t>((b * shape.queries + at[i].value) * e.heads + h);
                    const double have = static_cast<double>(mine(b, i, h)), want = static_cast<double>(expected.lse[n]);
                    if (have == want || std::abs(have - want) <= doubt * bounds.lse[n]) continue;
                    trouble << "lse (" << b << ", " << at[i].value << ", " << h << ") is " << have << ", not " << want
                            << '\n';
                    return;
                }
    }
    static void compare_heads(std::ostream& trouble, const char* what, const std::vector<A>& mine,
                              const std::vector<long double>& truth, const std::vector<double>& bound) {
        if (mine.size() != truth.size()) trouble << what << " has " << mine.size() << " heads\n";
        for (std::size_t h = 0; h < truth.size() && h < mine.size(); ++h) {
            const double off = std::abs(static_cast<double>(mine[h]) - static_cast<double>(truth[h]));
            if (!(off <= doubt * bound[h]))
                trouble << what << '[' << h << "] is " << mine[h] << ", not " << truth[h] << ": allowed "
                        << doubt * bound[h] << '\n';
        }
    }

    template <class Truth, class Bound>
    static void compare(std::ostream& trouble, const char* what, const tensor<T>& mine, const positions& at,
                        index_t whole, const Truth& truth, const Bound& bound) {
        const extents e = mine.shape();
        for (index_t b = 0; b < e.batch; ++b)
            for (index_t i = 0; i < e.seq; ++i)
                for (index_t h = 0; h < e.heads; ++h)
                    for (index_t d = 0; d < e.dim; ++d) {
                        const auto place =
                            static_cast<std::size_t>(((b * whole + at[i].value) * e.heads + h) * e.dim + d);
                        const double have = static_cast<double>(mine(b, i, h, d)),
                                     want = static_cast<double>(truth[place]);
                        const double allowed = doubt * bound[place];
                        if (std::abs(have - want) <= allowed) continue;
                        trouble << what << " (" << b << ", " << at[i].value << ", " << h << ", " << d << ") is " << have
                                << ", not " << want << ": off by " << std::abs(have - want) << ", allowed " << allowed
                                << '\n';
                        return;
                    }
    }
};

} // namespace seqpar::testing
