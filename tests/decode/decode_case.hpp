/// @file
/// A cache that grows and is attended to, step by step: every step judged by a full recomputation, its counted cost held to
/// the predicted one, its bits to those of every other rank. For any communicator.
#pragma once

#include <support/random.hpp>
#include <support/same_rows.hpp>

#include <seqpar/comm/metered.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/decode.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/verify/definition.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::testing {

/// What a step appends to each sequence, and how many of those tokens it queries at most.
struct growth {
    std::vector<index_t> counts;
    index_t queried = std::numeric_limits<index_t>::max();
};

struct decode_case {
    cache_shape shape;
    index_t heads = 0;
    any_layout layout;
    any_score score;
    std::vector<growth> steps;
    bool own = false; ///< every rank brings its own rows alone
};

/// `tokens` steps of one token for each of `batch` sequences.
[[nodiscard]] inline std::vector<growth> one_by_one(index_t batch, std::size_t tokens) {
    return std::vector<growth>(tokens, growth{std::vector<index_t>(static_cast<std::size_t>(batch), 1)});
}

/// What is wrong with the results of a step on one sequence: `out` and `lse` of query i of b, from full recomputation over
/// the whole q, k, v [1, length, ...] of the sequence.
template <real_element T, class Score>
class recomputation {
    using A = accumulator_t<T>;

public:
    recomputation(const tensor_view<const T>& q, const tensor_view<const T>& k, const tensor_view<const T>& v,
                  const Score& s, index_t batch_entry, int merges)
        : define_(frame(q, k, batch_entry), q, k, v, s, merges) {}

    void judge(index_t at, index_t h, const T* out, A lse, std::ostream& trouble) const {
        const judged_row want = define_.row(0, at, h);
        const auto near = [&](const char* what, double have, double wanted, double bound) {
            if (!(have == wanted || std::abs(have - wanted) <= bound))
                trouble << what << " of query at " << at << ", head " << h << " is " << have << ", recomputed "
                        << wanted << ", bound " << bound << '\n';
        };
        for (std::size_t d = 0; d < want.out.size(); ++d)
            near("out", static_cast<double>(out[d]), want.out[d], want.bound[d]);
        near("lse", static_cast<double>(lse), want.lse, want.lse_bound);
    }

private:
    [[nodiscard]] static context frame(const tensor_view<const T>& q, const tensor_view<const T>& k, index_t entry) {
        context how;
        how.scale = 1 / std::sqrt(static_cast<double>(q.shape().dim));
        how.n = {k.shape().seq, k.shape().seq};
        how.group = q.shape().heads / k.shape().heads;
        how.first_batch = entry;
        return how;
    }

    definition<T, Score> define_;
};

/// Whether lse is that of a row that has seen its sink alone; log2 and back round.
[[nodiscard]] inline bool nothing_but(double sink, double lse, double u) {
    return lse == sink || std::abs(lse - sink) <= 4 * u * std::abs(sink);
}

/// Each element's bits, in order.
template <element E>
void digest(const tensor<E>& x, std::uint64_t& hash) {
    for (index_t i = 0; i < x.shape().count(); ++i) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, x.data() + i, sizeof(E));
        hash = mixed(hash, bits);
    }
}

/// What is wrong on this rank; empty if nothing is. Collective. Steps are judged by the ranks in turn.
template <real_element T, class Kernel, communicator C>
[[nodiscard]] std::string trouble_with(C world, const Kernel& kernel, const decode_case& c) {
    using A = accumulator_t<T>;
    const cache_shape& s = c.shape;
    const int rank = world.rank(), size = world.size();
    const std::size_t batch = static_cast<std::size_t>(s.batch);
    std::vector<index_t> total(batch, 0);
    for (const growth& g : c.steps)
        for (std::size_t b = 0; b < batch; ++b) total[b] += g.counts[b];
    std::vector<tensor<T>> q, k, v; // of each whole sequence
    for (std::size_t b = 0; b < batch; ++b) {
        q.push_back(normal<T>({1, total[b], c.heads, s.dim}, 3 * b + 1));
        k.push_back(normal<T>({1, total[b], s.kv_heads, s.dim}, 3 * b + 2));
        v.push_back(normal<T>({1, total[b], s.kv_heads, s.dim_v}, 3 * b + 3));
    }

    std::ostringstream trouble;
    const auto counted = std::make_shared<meter>();
    counted_memory memory, storage;
    kv_cache<T, any_layout> cache(world, s, c.layout, &storage);
    decode attend{metered<C>(world, counted), c.score, kernel, options{.memory = &memory}};
    std::uint64_t bits = 0;
    std::vector<index_t> length(batch, 0);
    std::size_t said = 0;
    std::string first;
    for (std::size_t step = 0; step < c.steps.size(); ++step) { // all of them, whatever is wrong: others wait
        const growth& g = c.steps[step];
        const T nan = static_cast<T>(std::numeric_limits<float>::quiet_NaN()); // where nothing is to be read
        const auto padded = [&](const extents& shape) {
            tensor<T> x(shape);
            std::fill_n(x.data(), shape.count(), nan);
            return x;
        };
        std::vector<index_t> asked, rows;
        std::vector<positions> brought;
        for (std::size_t b = 0; b < batch; ++b) {
            asked.push_back(std::min(g.counts[b], g.queried));
            brought.push_back(c.own ? cache.share(static_cast<index_t>(b), g.counts[b])
                                    : positions{run{position(length[b]), 1, g.counts[b]}});
            rows.push_back(brought.back().size());
        }
        const index_t most = *std::max_element(rows.begin(), rows.end()) + static_cast<index_t>(step % 2),
                      queries = *std::max_element(asked.begin(), asked.end());
        tensor<T> new_k = padded({s.batch, most, s.kv_heads, s.dim}),
                  new_v = padded({s.batch, most, s.kv_heads, s.dim_v}),
                  new_q = padded({s.batch, queries, c.heads, s.dim});
        const auto part = [](const tensor<T>& x, std::size_t b, index_t count) {
            const extents& e = x.shape();
            tensor<T>& into = const_cast<tensor<T>&>(x);
            return tensor_view<T>(into.data() + static_cast<index_t>(b) * e.seq * e.heads * e.dim,
                                  {1, count, e.heads, e.dim});
        };
        for (std::size_t b = 0; b < batch; ++b) {
            take_rows(k[b].view(), brought[b], part(new_k, b, rows[b]));
            take_rows(v[b].view(), brought[b], part(new_v, b, rows[b]));
            length[b] += g.counts[b];
            take_rows(q[b].view(), positions{run{position(length[b] - asked[b]), 1, asked[b]}},
                      part(new_q, b, asked[b]));
        }
        if (c.own)
            cache.append_own(new_k, new_v, g.counts);
        else
            cache.append(new_k, new_v, g.counts);

        counted->reset();
        memory.reset_peak();
        const decoded<T> result = attend.step(new_q, cache, asked);
        const plan::cost predicted = attend.predict(cache, c.heads, queries, asked);
        const auto same = [&](const char* what, auto have, auto want) {
            if (std::cmp_not_equal(have, want))
                trouble << what << " counted " << have << ", predicted " << want << '\n';
        };
        same("bytes", counted->payload().bytes, predicted.bytes);
        same("messages", counted->payload().messages, predicted.messages);
        same("rounds", counted->payload().rounds, predicted.rounds);
        same("peak memory", memory.peak(), predicted.memory);
        same("memory still held", memory.held(), 0);
        same("storage", storage.held(), cache.bytes());
        digest(result.out, bits);
        digest(result.lse, bits);

        for (std::size_t b = 0; b < batch; ++b) {
            const index_t entry = static_cast<index_t>(b);
            index_t fewest = length[b], largest = 0, sum = 0;
            for (int r = 0; r < size; ++r) {
                const index_t held = cache.held_by(r, entry).size();
                fewest = std::min(fewest, held), largest = std::max(largest, held), sum += held;
            }
            if (sum != length[b] || largest > fewest + 1 || cache.length(entry) != length[b])
                trouble << "sequence " << b << " of " << length[b] << " has " << sum << " rows, of a rank " << fewest
                        << " to " << largest << '\n';
            if (step % static_cast<std::size_t>(size) != static_cast<std::size_t>(rank)) continue;
            const recomputation<T, any_score> all(q[b].view().rows(0, length[b]), k[b].view().rows(0, length[b]),
                                                  v[b].view().rows(0, length[b]), c.score, entry, size + 1);
            for (index_t i = 0; i < queries; ++i)
                for (index_t h = 0; h < c.heads; ++h) {
                    const T* out = &result.out(entry, i, h);
                    if (i < asked[b]) {
                        all.judge(length[b] - asked[b] + i, h, out, result.lse(entry, i, h), trouble);
                    } else if (!nothing_but(logit_of(c.score, h), static_cast<double>(result.lse(entry, i, h)),
                                            element_traits<A>::roundoff) ||
                               std::any_of(out, out + s.dim_v, [](T x) { return x != T{}; })) {
                        trouble << "row " << i << " of sequence " << b << " asks nothing, and has lse "
                                << result.lse(entry, i, h) << '\n';
                    }
                }
        }
        if (const std::size_t length_now = trouble.str().size(); length_now > said) {
            trouble << "in step " << step << '\n';
            if (said == 0) first = trouble.str();
            said = trouble.str().size();
        }
    }

    std::vector<std::uint64_t> everyones(static_cast<std::size_t>(size));
    collective::all_gather_doubling(world, outgoing{reinterpret_cast<const std::byte*>(&bits), sizeof bits},
                                    reinterpret_cast<std::byte*>(everyones.data()));
    if (everyones[0] != bits) trouble << "other bits than rank 0\n";
    if (trouble.str().empty()) return {};
    if (first.empty()) first = trouble.str();
    std::ostringstream title;
    title << attend.name() << ", " << c.layout.name() << ", rank " << rank << " of " << size << ", heads " << c.heads
          << '/' << s.kv_heads << " dim " << s.dim << '/' << s.dim_v << " batch " << s.batch << '\n';
    return title.str() + first;
}

} // namespace seqpar::testing
