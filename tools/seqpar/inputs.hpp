#pragma once

#include "npy.hpp"
#include "settings.hpp"

#include <seqpar/attention/preflight.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/core/shape.hpp>

#include <optional>
#include <string>
#include <vector>

namespace seqpar::tool {

/// The headers of Q, K and V, and where backward is asked for of DOUT and perhaps of DLSE.
struct input_headers {
    npy_header q, k, v;
    std::optional<npy_header> dout, dlse;
    std::optional<npy_header> out; ///< of another program, where it is to be judged

    /// The type that the attention is computed in.
    [[nodiscard]] storage_type storage(const attention_command& c) const {
        const bool wide = (out ? *out : q).type == npy_type::float64;
        return c.storage.value_or(wide ? storage_type::float64 : storage_type::float32);
    }
};

/// Checks the files. @throws refusal, with a path, if one is no array or they are of different types
[[nodiscard]] inline input_headers check_inputs(const attention_command& c) {
    const std::vector<npy_type> numbers{npy_type::float32, npy_type::float64};
    const auto check = [&](const std::string& path) {
        return check_npy(
            path, {numbers, 4, "[batch, seq, heads, head_dim] (with --format bhsd: [batch, heads, seq, head_dim])"});
    };
    input_headers all{check(c.q), check(c.k), check(c.v), {}, {}, {}};
    const auto same_type = [&](const std::string& path, const npy_header& h) {
        if (h.type != all.q.type)
            throw refusal(detail::concat(path, " is ", name_of(h.type), " and ", c.q, " is ", name_of(all.q.type),
                                         ": they must be of one type"));
    };
    same_type(c.k, all.k), same_type(c.v, all.v);
    if (c.dout) same_type(*c.dout, all.dout.emplace(check(*c.dout)));
    if (c.against) all.out = check(*c.against);
    if (c.dlse) all.dlse = check_npy(*c.dlse, {numbers, 3, "[batch, heads, seq]"});
    return all;
}

/// Q, K and V of the whole sequence, and where backward is asked for DOUT and perhaps DLSE.
template <class T>
struct whole_inputs {
    npy_array<T> q, k, v;
    std::optional<npy_array<T>> dout;                ///< [batch, seq, heads, head_dim of v]
    std::optional<npy_array<accumulator_t<T>>> dlse; ///< [batch, seq, heads, 1]

    [[nodiscard]] attention_shape shape() const {
        const extents &a = q.view.shape(), &b = k.view.shape(), &c = v.view.shape();
        return {a.batch, a.seq, b.seq, a.heads, b.heads, a.dim, c.dim};
    }
};

/// Loads them. @throws refusal if their shapes do not belong together
template <class T>
[[nodiscard]] whole_inputs<T> load_inputs(const attention_command& c, const input_headers& headers) {
    whole_inputs<T> all{load_npy<T>(c.q, headers.q, c.how.order),
                        load_npy<T>(c.k, headers.k, c.how.order),
                        load_npy<T>(c.v, headers.v, c.how.order),
                        {},
                        {}};
    // The facade checks each rank's rows; here the message can speak of the whole sequence.
    detail::call whole;
    whole.q = all.q.view.shape(), whole.k = all.k.view.shape(), whole.v = all.v.view.shape();
    if (const std::string trouble = detail::trouble_of(whole); !trouble.empty()) throw refusal(trouble);
    const auto expect = [&](const std::string& path, const extents& have, const extents& want, const char* what) {
        if (have != want) throw refusal(detail::concat(path, ": it is ", have, ": allowed is ", want, ", ", what));
    };
    const extents &q = whole.q, &v = whole.v;
    if (c.dout) {
        all.dout = load_npy<T>(*c.dout, *headers.dout, c.how.order);
        expect(*c.dout, all.dout->view.shape(), {q.batch, q.seq, q.heads, v.dim}, "the shape of the output");
    }
    if (c.dlse) {
        all.dlse = load_npy<accumulator_t<T>>(*c.dlse, *headers.dlse, c.how.order);
        expect(*c.dlse, all.dlse->view.shape(), {q.batch, q.seq, q.heads, 1}, "one for each row of each head");
    }
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
