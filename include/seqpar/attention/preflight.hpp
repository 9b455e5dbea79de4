#pragma once

#include <seqpar/attention/options.hpp>
#include <seqpar/comm/collectives.hpp>
#include <seqpar/core/mixed.hpp>
#include <seqpar/core/placement.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/score/score.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ios>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace seqpar {

namespace detail {

/// Text of bounded size that can be sent.
template <std::size_t Size>
struct sent_text {
    std::array<char, Size> chars{};

    void operator=(std::string_view text) noexcept {
        chars.fill('\0');
        std::copy_n(text.begin(), std::min(text.size(), Size - 1), chars.begin());
    }
    /// The text, if it fits; if not, as much as fits, and a hash of all: texts that differ do so here.
    void identify(const std::string& text) {
        if (text.size() < Size) {
            *this = text;
            return;
        }
        std::uint64_t hash = text.size();
        for (const char c : text) hash = mixed(hash, static_cast<unsigned char>(c));
        const std::string tail = concat("... ", std::hex, hash);
        *this = text.substr(0, Size - 1 - tail.size()) + tail;
    }
    [[nodiscard]] std::string_view view() const noexcept { return chars.data(); }
};

/// What one rank is about to do, in a form that can be sent.
struct call {
    extents q, k, v;
    double scale = 0;
    std::size_t lse = 0;             ///< 1 if it is wanted
    std::size_t save = 0, check = 0; ///< as in options
    std::size_t pass = 0;            ///< 0 forward, 1 backward, 2 backward with a gradient into lse
    sent_text<16> element;
    sent_text<232> scheme;  ///< strategy, layout, score, kernel
    sent_text<424> trouble; ///< why this rank cannot go on; empty if it can
};
static_assert(std::is_trivially_copyable_v<call>);

/// What options ask of all ranks alike.
inline void describe(const options& how, call& c) noexcept {
    c.lse = how.lse ? 1 : 0;
    c.save = how.save == saving::keep ? 1 : 0;
    c.check = static_cast<std::size_t>(how.check);
}

/// Throws the refusal of the first rank that is in trouble.
inline void refuse_trouble(std::span<const call> all) {
    for (std::size_t r = 0; r < all.size(); ++r)
        if (!all[r].trouble.view().empty()) {
            const bool everyone =
                std::ranges::all_of(all, [&](const call& c) { return c.trouble.view() == all[r].trouble.view(); });
            throw refusal(everyone ? std::string(all[r].trouble.view())
                                   : concat("rank ", r, ": ", all[r].trouble.view()));
        }
}

/// What is wrong with one rank's call by itself; empty if nothing is.
[[nodiscard]] inline std::string trouble_of(const call& c) {
    const auto differ = [&](const char* what, const char* a, index_t x, const char* b, index_t y) {
        return concat(what, " of ", a, " is ", x, " and of ", b, " is ", y, ": they must be equal");
    };
    if (c.k.batch != c.q.batch) return differ("batch", "Q", c.q.batch, "K", c.k.batch);
    if (c.v.batch != c.q.batch) return differ("batch", "Q", c.q.batch, "V", c.v.batch);
    if (c.k.dim != c.q.dim) return differ("head_dim", "Q", c.q.dim, "K", c.k.dim);
    if (c.k.seq != c.v.seq) return differ("seq", "K", c.k.seq, "V", c.v.seq);
    if (c.k.heads != c.v.heads) return differ("the number of heads", "K", c.k.heads, "V", c.v.heads);
    if (c.q.dim < 1 || c.v.dim < 1)
        return concat("head_dim is ", c.q.dim, " for Q and ", c.v.dim, " for V: it must be at least 1");
    if (c.k.heads < 1 || c.q.heads < 1 || c.q.heads % c.k.heads != 0)
        return concat("heads is ", c.q.heads, " and kv_heads is ", c.k.heads,
                      ": heads must be a positive multiple of kv_heads");
    if (!std::isfinite(c.scale)) return concat("scale is ", c.scale, ": it must be finite");
    return {};
}

/// Throws if the ranks' calls do not belong together.
inline void refuse_differences(std::span<const call> all) {
    const call& first = all.front();
    for (std::size_t r = 1; r < all.size(); ++r) {
        const call& c = all[r];
        const auto same = [&](const auto& here, const auto& there, const char* what) {
            if (here != there)
                throw refusal(
                    concat("rank ", r, " has ", what, ' ', here, " and rank 0 has ", there, ": all ranks must agree"));
        };
        same(c.scheme.view(), first.scheme.view(), "scheme");
        same(c.element.view(), first.element.view(), "element type");
        same(c.q.batch, first.q.batch, "batch");
        same(c.q.heads, first.q.heads, "heads");
        same(c.k.heads, first.k.heads, "kv_heads");
        same(c.q.dim, first.q.dim, "head_dim of Q");
        same(c.v.dim, first.v.dim, "head_dim of V");
        same(c.scale, first.scale, "scale");
        same(c.lse, first.lse, "lse wanted");
        same(c.save, first.save, "options::save (0 resend, 1 keep)");
        same(c.check, first.check, "options::check (0 all ranks, 1 own rank, 2 none)");
        same(c.pass, first.pass, "pass (0 forward, 1 backward, 2 backward with dlse)");
    }
}

/// The placement of every rank under a layout.
template <class Layout>
[[nodiscard]] std::vector<placement> place(const Layout& layout, int size, lengths n, index_t heads, index_t kv_heads) {
    std::vector<placement> where;
    for (int r = 0; r < size; ++r)
        where.push_back(
            {{layout.positions(r, size, n.queries), {0, heads}}, {layout.positions(r, size, n.keys), {0, kv_heads}}});
    return where;
}

/// Throws if a rank's rows are not those that its layout gives it.
inline void refuse_rows(const call& c, std::size_t rank, std::span<const placement> where, lengths n,
                        const std::string& layout) {
    const auto same = [&](index_t have, index_t want, index_t total, const char* what) {
        if (have != want)
            throw refusal(concat("rank ", rank, " brings ", have, " rows of ", what, "; of ", total, " rows over ",
                                 where.size(), " ranks, the layout ", layout, " gives it ", want));
    };
    same(c.q.seq, where[rank].queries.rows.size(), n.queries, "Q");
    same(c.k.seq, where[rank].keys.rows.size(), n.keys, "K and V");
}

} // namespace detail
} // namespace seqpar
