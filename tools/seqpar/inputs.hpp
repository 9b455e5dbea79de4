#pragma once

#include "npy.hpp"
#include "settings.hpp"

#include <seqpar/attention/preflight.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/rows.hpp>

#include <array>

namespace seqpar::tool {

/// The headers of Q, K and V.
using input_headers = std::array<npy_header, 3>;

/// Checks the three files. @throws refusal, with a path, if one is no array or they are of different types
[[nodiscard]] inline input_headers check_inputs(const attention_command& c) {
    const input_headers all{check_npy(c.q), check_npy(c.k), check_npy(c.v)};
    const auto type = [](const npy_header& h) { return h.is_double ? "float64" : "float32"; };
    const std::array<const std::string*, 3> paths{&c.q, &c.k, &c.v};
    for (std::size_t i = 1; i < 3; ++i)
        if (all[i].is_double != all[0].is_double)
            throw refusal(detail::concat(*paths[i], " is ", type(all[i]), " and ", *paths[0], " is ", type(all[0]),
                                         ": Q, K and V must be of one type"));
    return all;
}

/// Q, K and V of the whole sequence.
template <class T>
struct whole_inputs {
    npy_array<T> q, k, v;

    [[nodiscard]] attention_shape shape() const {
        const extents &a = q.view.shape(), &b = k.view.shape(), &c = v.view.shape();
        return {a.batch, a.seq, b.seq, a.heads, b.heads, a.dim, c.dim};
    }
};

/// Loads them. @throws refusal if their shapes do not belong together
template <class T>
[[nodiscard]] whole_inputs<T> load_inputs(const attention_command& c, const input_headers& headers) {
    const auto load = [&](const std::string& path, std::size_t i) {
        return load_npy<T>(path, headers[i], c.how.order);
    };
    whole_inputs<T> all{load(c.q, 0), load(c.k, 1), load(c.v, 2)};
    // The facade checks each rank's rows; here the message can speak of the whole sequence.
    detail::call whole;
    whole.q = all.q.view.shape(), whole.k = all.k.view.shape(), whole.v = all.v.view.shape();
    if (const std::string trouble = detail::trouble_of(whole); !trouble.empty()) throw refusal(trouble);
    return all;
}

/// The rows that a rank holds: a view of the whole where they are evenly spaced, a copy where they are not.
template <class T>
class rank_rows {
public:
    rank_rows(const tensor_view<const T>& whole, const positions& at) {
        if (at.runs().size() <= 1) {
            const run r = at.empty() ? run{} : at.runs().front();
            view_ = whole.rows(r.first.value, r.count, r.stride);
            return;
        }
        const extents& e = whole.shape();
        copy_ = tensor<T>({e.batch, at.size(), e.heads, e.dim});
        take_rows(whole, at, copy_.view());
        view_ = copy_.view();
    }
    rank_rows(const rank_rows&) = delete;
    rank_rows& operator=(const rank_rows&) = delete;

    [[nodiscard]] const tensor_view<const T>& view() const noexcept { return view_; }

private:
    tensor<T> copy_;
    tensor_view<const T> view_;
};

} // namespace seqpar::tool
