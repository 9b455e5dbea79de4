#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/outstanding.hpp>
#include <seqpar/core/exchange_pattern.hpp>
#include <seqpar/core/per_rows.hpp>
#include <seqpar/plan/all_gather_cost.hpp>
#include <seqpar/strategy/parcel.hpp>
#include <seqpar/strategy/row_pieces.hpp>
#include <seqpar/strategy/strategy.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {

/// Every rank gathers the K that its rows see, and computes its own rows against it. V is gathered with K, or streamed:
/// `stream` blocks of V arrive in a round, while those of the round before are computed.
/// (Gathered K, V: Llama 3 training, arXiv:2407.21783, section 3.3.2. Doubling: Bruck et al. 1997.)
///
/// n = N / P rows, k = kv_heads * head_dim, m = P - 1. Where all is seen a rank sends 2 n k m elements, gathered in m rounds
/// (doubling: ceil(log2 P)), and holds 2 N k; streamed, in ceil(m / stream) rounds more, and holds N k + (2 stream + 1) n k.
/// `direct`, and the stream of V, fetch only rows that some query of the receiver may see; `ring` and `doubling` pass whole
/// blocks on. Keys that are gathered whole are folded in global order, so the result is bit for bit that of serial.
struct all_gather {
    int stream = 0;                                      ///< blocks of V a round; 0: V is gathered with K
    exchange_pattern pattern = exchange_pattern::direct; ///< of the gather

    template <communicator C>
    class bound {
    public:
        bound(C comm, int stream, exchange_pattern pattern)
            : comm_(std::move(comm)), stream_(stream), pattern_(pattern) {}

        /// What was gathered: K, and V unless it is streamed, of every rank.
        template <element T>
        struct saved {
            bool there = false;
            parcel held;
            std::vector<tensor_view<T>> k, v;
        };

        template <element T, class Local>
        void forward(const Local& local, std::span<const placement> where, const operands<T>& x,
                     saved<T>* keep = nullptr) {
            const shares rows = share_rows(local, where);
            saved<T> mine;
            saved<T>& gathered = keep != nullptr ? *keep : mine;
            gather(local, where, rows, x, gathered);
            const block<const T> q{x.q, where[static_cast<std::size_t>(comm_.rank())].queries};
            partial<accumulator_t<T>> seen(x.out.shape(), local.how.memory);
            each_round(local, rows, x, gathered, [&](const std::vector<int>&, auto keys, auto& travelling) {
                local.fold(q, keys, seen, travelling);
            });
            local.template finish<T>(seen, q.at, x);
        }

        /// The gradients that this rank's queries cause, of all rows that it computes with, go back to their owners, who
        /// add them in the order of ranks.
        template <element T, class Local>
        void backward(const Local& local, std::span<const placement> where, const operands<T>& x, const gradients<T>& g,
                      const saved<T>& kept) {
            using A = accumulator_t<T>;
            const shares rows = share_rows(local, where);
            saved<T> again;
            if (!kept.there) gather(local, where, rows, x, again);
            const saved<T>& gathered = kept.there ? kept : again;

            const block<const T> q{x.q, where[static_cast<std::size_t>(comm_.rank())].queries};
            std::vector<kv_parcel<A>> caused;
            for (const origin& fetched : rows.origins) {
                caused.push_back(room_for_sums<A>(fetched, x, local.how.memory));
                caused.back().clear();
            }
            each_round(local, rows, x, gathered, [&](const std::vector<int>& ranks, auto keys, auto& travelling) {
                std::vector<key_gradients<A>> dkv;
                for (const int r : ranks) {
                    const kv_parcel<A>& of = caused[at(r)];
                    for_each_piece(rows.fetched[at(r)], [&](interval piece, index_t begin) {
                        const index_t count = piece.last - piece.first;
                        dkv.push_back({of.k().rows(begin, count), of.v().rows(begin, count)});
                    });
                }
                local.fold_back(q, g.rows, keys, g.dq, std::span<const key_gradients<A>>(dkv), travelling);
            });
            again = {};
            return_gradients(local, where, rows, x, g, caused);
        }

    private:
        /// Which rows which rank computes with.
        struct shares {
            std::vector<row_selection> fetched;      ///< of each rank's keys, those that this one computes with
            std::vector<row_selection> sent;         ///< of this rank's keys, those that each one computes with
            std::vector<origin> origins;             ///< of `fetched`
            std::vector<std::vector<origin>> pieces; ///< of the runs of `fetched`
        };

        [[nodiscard]] static std::size_t at(int rank) noexcept { return static_cast<std::size_t>(rank); }
        [[nodiscard]] int after(int distance) const { return (comm_.rank() + distance) % comm_.size(); }
        [[nodiscard]] int before(int distance) const { return (comm_.rank() - distance + comm_.size()) % comm_.size(); }

        template <class Local>
        [[nodiscard]] shares share_rows(const Local& local, std::span<const placement> where) const {
            const bool subset = pattern_ == exchange_pattern::direct || stream_ != 0;
            const placement& mine = where[at(comm_.rank())];
            const auto needed = [&](const placement& by, const placement& of) { // the own rows need not travel
                return subset && &by != &of ? local.seen(by.queries, of.keys) : every_row(of.keys.rows);
            };
            shares all;
            for (const placement& p : where) {
                all.fetched.push_back(needed(mine, p));
                all.sent.push_back(needed(p, mine));
                const positions& rows = all.fetched.back().at;
                all.origins.push_back({rows, p.keys.heads});
                all.pieces.emplace_back();
                for (const run& r : rows.runs()) all.pieces.back().push_back({positions{r}, p.keys.heads});
            }
            return all;
        }

        /// Packs this rank's rows of these blocks for the ranks at these distances after it.
        template <element... T>
        void pack_for(const std::vector<int>& distances, std::pmr::memory_resource* memory, const shares& rows,
                      per_rows<parcel>& packed, const tensor_view<const T>&... mine) const {
            std::vector<const positions*> wanted;
            for (const int distance : distances) wanted.push_back(&rows.sent[at(after(distance))].at);
            packed.next_round(wanted, [&](const positions& these) {
                const auto same = [&](const row_selection& s) { return s.at == these; };
                return pack_rows<T...>(memory, *std::ranges::find_if(rows.sent, same), mine...);
            });
        }

        /// Posts one round: what is packed goes to the ranks at these distances after this one, and what comes from those as
        /// far before it goes to landing(rank).
        template <class Landing>
        void post(const std::vector<int>& distances, const shares& rows, const per_rows<parcel>& packed,
                  const Landing& landing, outstanding<C>& travelling) {
            for (const int distance : distances) {
                const int to = after(distance), from = before(distance);
                travelling.add(comm_.exchange(packed.of(rows.sent[at(to)].at).out(), to, landing(from), from));
            }
        }

        /// Brings K, and V unless it is streamed, of the ranks to every rank.
        template <element T, class Local>
        void gather(const Local& local, std::span<const placement> where, const shares& rows, const operands<T>& x,
                    saved<T>& into) {
            const auto memory = local.how.memory;
            const bool whole = pattern_ != exchange_pattern::direct, with_v = stream_ == 0;
            const int size = comm_.size();
            into.there = true;
            into.k.resize(where.size()), into.v.resize(where.size());
            std::size_t room = 0;
            for (std::size_t r = 0; r < where.size(); ++r) {
                const bool stays = !whole && r == at(comm_.rank()); // the own rows are read where they are
                const positions& held = whole ? where[r].keys.rows : rows.fetched[r].at;
                const auto shape = [&](const auto& like, index_t count) {
                    return extents{like.shape().batch, count, where[r].keys.heads.count, like.shape().dim};
                };
                into.k[r] = {nullptr, shape(x.k, stays ? 0 : held.size())};
                into.v[r] = {nullptr, shape(x.v, stays ? 0 : with_v ? held.size() : rows.fetched[r].at.size())};
                room += tensor<T>::bytes(into.k[r].shape()) + (with_v ? tensor<T>::bytes(into.v[r].shape()) : 0);
            }
            into.held = parcel(room, memory);
            std::vector<std::size_t> sizes(where.size());
            for (int distance = 0; distance < size; ++distance) { // the own first, then as doubling wants them
                const std::size_t r = at(after(distance));
                into.k[r] = into.held.template carve<T>(into.k[r].shape());
                if (with_v) into.v[r] = into.held.template carve<T>(into.v[r].shape());
                sizes[r] = into.k[r].wire_bytes() + (with_v ? into.v[r].wire_bytes() : 0);
            }
            const auto landing = [&](int r) {
                return incoming{reinterpret_cast<std::byte*>(into.k[at(r)].data()), sizes[at(r)]};
            };
            if (whole) {
                copy(x.k, into.k[at(comm_.rank())]);
                if (with_v) copy(x.v, into.v[at(comm_.rank())]);
            }
            switch (pattern_) {
            case exchange_pattern::direct: {
                [[maybe_unused]] const auto named = detail::announce(comm_, "all_gather");
                per_rows<parcel> packed;
                for (int distance = 1; distance < size; ++distance) {
                    outstanding<C> travelling;
                    if (with_v)
                        pack_for({distance}, memory, rows, packed, x.k, x.v);
                    else
                        pack_for({distance}, memory, rows, packed, x.k);
                    post({distance}, rows, packed, landing, travelling);
                    travelling.wait();
                }
                break;
            }
            case exchange_pattern::ring: {
                std::vector<incoming> everyone;
                for (int r = 0; r < size; ++r) everyone.push_back(landing(r));
                collective::all_gather_ring(comm_, std::span<const incoming>(everyone));
                break;
            }
            case exchange_pattern::doubling:
                collective::all_gather_doubling(comm_, std::span<const std::size_t>(sizes), into.held.in().data);
                break;
            }
        }

        /// Calls compute(ranks, their keys, what travels) for the keys of each round, while the V of the next one travels.
        template <element T, class Local, class Compute>
        void each_round(const Local& local, const shares& rows, const operands<T>& x, const saved<T>& gathered,
                        const Compute& compute) {
            const auto memory = local.how.memory;
            std::vector<tensor_view<T>> v = gathered.v;
            const std::vector<std::vector<int>> rounds = distances();
            per_rows<parcel> packed;
            parcel here, arriving; // V of the ranks of a round
            for (std::size_t i = 0; i < rounds.size(); ++i) {
                const std::vector<int> next = i + 1 < rounds.size() ? rounds[i + 1] : std::vector<int>{};
                outstanding<C> travelling;
                std::size_t room = 0;
                for (const int distance : next) room += tensor<T>::bytes(v[at(before(distance))].shape());
                const auto landing = [&](int r) {
                    v[at(r)] = arriving.template carve<T>(v[at(r)].shape());
                    return incoming{reinterpret_cast<std::byte*>(v[at(r)].data()), v[at(r)].wire_bytes()};
                };
                pack_for(next, memory, rows, packed, x.v);
                arriving = parcel(room, memory);
                post(next, rows, packed, landing, travelling);
                std::vector<int> ranks;
                std::vector<key_block<T>> keys;
                for (const int distance : rounds[i]) {
                    const std::size_t r = at(before(distance));
                    ranks.push_back(before(distance));
                    const auto add = [&](const auto& k_of, const auto& v_of) {
                        std::size_t n = 0;
                        for_each_piece(rows.fetched[r], [&](interval piece, index_t begin) {
                            keys.push_back({piece_of(k_of, rows.fetched[r], piece, begin),
                                            piece_of(v_of, rows.fetched[r], piece, begin), rows.pieces[r][n++]});
                        });
                    };
                    if (distance == 0)
                        add(x.k, x.v);
                    else
                        add(gathered.k[r], v[r]);
                }
                compute(ranks, std::span<const key_block<T>>(keys), travelling);
                travelling.wait();
                here = std::exchange(arriving, parcel{});
            }
        }

        /// How far before this rank those are whose keys are computed in each round: everyone at once, or the own keys first
        /// and then those of `stream` ranks at a time.
        [[nodiscard]] std::vector<std::vector<int>> distances() const {
            std::vector<std::vector<int>> rounds(1);
            for (int distance = 0; distance < comm_.size(); ++distance) {
                if (stream_ != 0 && distance >= 1 && (distance - 1) % stream_ == 0) rounds.emplace_back();
                rounds.back().push_back(distance);
            }
            return rounds;
        }

        template <element A, element T>
        [[nodiscard]] static kv_parcel<A> room_for_sums(const origin& of, const operands<T>& x,
                                                        std::pmr::memory_resource* memory) {
            const index_t batch = x.k.shape().batch, dim = x.k.shape().dim, dim_v = x.v.shape().dim;
            kv_parcel<A> sums(kv_parcel<A>::bytes(of, batch, dim, dim_v), memory);
            sums.shape(of, batch, dim, dim_v);
            return sums;
        }

        /// Brings everyone's part of the gradients of this rank's keys home, and adds them in the order of ranks.
        template <element T, class Local, element A = accumulator_t<T>>
        void return_gradients(const Local& local, std::span<const placement> where, const shares& rows,
                              const operands<T>& x, const gradients<T>& g, std::vector<kv_parcel<A>>& caused) {
            [[maybe_unused]] const auto named = detail::announce(comm_, "reduce_scatter");
            const std::size_t me = at(comm_.rank());
            std::vector<kv_parcel<A>> parts(where.size());
            parts[me] = std::move(caused[me]);
            for (int distance = 1; distance < comm_.size(); ++distance) {
                const std::size_t to = at(after(distance)), from = at(before(distance));
                const origin own{rows.sent[from].at, where[me].keys.heads};
                parts[from] = room_for_sums<A>(own, x, local.how.memory);
                comm_.exchange(caused[to].out(), after(distance), parts[from].in(), before(distance)).wait();
                caused[to] = {};
            }
            for (std::size_t r = 0; r < where.size(); ++r) {
                add_rows(parts[r].k(), rows.sent[r], g.dk);
                add_rows(parts[r].v(), rows.sent[r], g.dv);
            }
        }

        C comm_;
        int stream_;
        exchange_pattern pattern_;
    };

    template <communicator C>
    [[nodiscard]] bound<C> on(C& comm) const {
        check(comm.size());
        return {comm, stream, pattern};
    }
    void check(int) const {
        if (stream < 0)
            throw refusal(detail::concat("all-gather that streams ", stream,
                                         " blocks of V a round: allowed are 1 and more, or 0 to gather V with K"));
    }
    [[nodiscard]] plan::cost predict(const plan::problem& p, int rank) const {
        return plan::all_gather_cost(p, rank, stream, pattern).forward();
    }
    [[nodiscard]] plan::cost predict_backward(const plan::problem& p, int rank) const {
        return plan::all_gather_cost(p, rank, stream, pattern).backward();
    }
    [[nodiscard]] std::string name() const {
        std::string text = "all-gather";
        if (pattern == exchange_pattern::ring) text += ":ring";
        if (pattern == exchange_pattern::doubling) text += ":doubling";
        if (stream != 0) text += ":stream=" + std::to_string(stream);
        return text;
    }
};
static_assert(strategy<all_gather>);

} // namespace seqpar
