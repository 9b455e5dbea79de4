#pragma once

#include <seqpar/core/exchange_pattern.hpp>
#include <seqpar/core/per_rows.hpp>
#include <seqpar/plan/cost.hpp>
#include <seqpar/plan/ledger.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace seqpar::plan {

/// All-gather, with m = P - 1: a rank sends of its own block to each other one the rows that it needs, or, passing on, all
/// blocks but one; at most 2 n k m elements when even, in m rounds, or ceil(log2 P) by doubling. V streamed c blocks a
/// round: ceil(m / c) rounds more. Its backward returns the gradients of the rows that were needed, in the accumulation
/// type: m rounds.
///
/// Memory, forward: K and V of others (K alone, if V is streamed, and then two rounds' worth of V), of all where they are
/// passed on; beside it either what is being sent or the partial and the kernel's scratch. Backward: the same without a
/// partial, and the gradients of everyone's keys, while they return those of the own ones from every other rank.
class all_gather_cost {
public:
    all_gather_cost(const problem& p, int rank, int stream, exchange_pattern pattern)
        : p_(p), rank_(rank), size_(p.size()), stream_(std::min(stream, size_)), pattern_(pattern) {
        const bool subset = pattern == exchange_pattern::direct || stream != 0;
        const auto needed = [&](int by, int of) {
            const origin& keys = p.of(of).keys;
            return subset && by != of ? p.seen(p.of(by).queries, keys) : keys.rows;
        };
        for (int r = 0; r < size_; ++r) {
            fetched_.push_back(needed(rank, r));
            sent_.push_back(needed(r, rank));
        }
    }

    [[nodiscard]] cost forward() {
        ledger::lease gathered = memory_.take(held());
        gather();
        const ledger::lease partial = memory_.take(p_.partial_bytes(rank_));
        each_round([&](std::span<const positions> keys) { return p_.kernel(rank_, keys); });
        return priced();
    }

    [[nodiscard]] cost backward() {
        ledger::lease gathered = memory_.take(held());
        if (!p_.keep) gather();
        std::vector<ledger::lease> caused, arrived(fetched_.size());
        for (int r = 0; r < size_; ++r) caused.push_back(memory_.take(sums(r, of(fetched_, r))));
        each_round([&](std::span<const positions> keys) { return p_.backward_kernel(rank_, keys); });
        if (!p_.keep) gathered = {};
        for (int distance = 1; distance < size_; ++distance) {
            const int to = after(distance), from = before(distance);
            arrived[static_cast<std::size_t>(from)] = memory_.take(sums(rank_, of(sent_, from)));
            round(distance, sums(to, of(fetched_, to)), sums(rank_, of(sent_, from)));
            caused[static_cast<std::size_t>(to)] = {};
        }
        return priced();
    }

private:
    [[nodiscard]] cost priced() {
        cost_.memory = memory_.peak();
        cost_.kept = p_.keep ? held() : 0;
        return cost_;
    }

    [[nodiscard]] static const positions& of(const std::vector<positions>& rows, int rank) {
        return rows[static_cast<std::size_t>(rank)];
    }
    [[nodiscard]] int after(int distance) const { return (rank_ + distance) % size_; }
    [[nodiscard]] int before(int distance) const { return (rank_ - distance + size_) % size_; }

    /// Elements of rows of that rank's keys, `dim` to a head.
    [[nodiscard]] std::size_t elements(int rank, const positions& rows, index_t dim) const {
        return static_cast<std::size_t>(p_.batch * rows.size() * p_.of(rank).keys.heads.count * dim);
    }
    [[nodiscard]] std::size_t k_or_kv(int rank, const positions& rows) const {
        return elements(rank, rows, p_.dim + (stream_ == 0 ? p_.dim_v : 0)) * p_.element_bytes;
    }
    [[nodiscard]] std::size_t v(int rank, const positions& rows) const {
        return elements(rank, rows, p_.dim_v) * p_.element_bytes;
    }
    [[nodiscard]] std::size_t sums(int rank, const positions& rows) const {
        return elements(rank, rows, p_.dim + p_.dim_v) * p_.accumulator_bytes;
    }
    [[nodiscard]] std::size_t whole(int rank) const { return k_or_kv(rank, p_.of(rank).keys.rows); }

    /// To the rank that is `shift` further on.
    void round(int shift, std::size_t sent, std::size_t received) {
        p_.tell(p_.message(shift, sent));
        cost_.bytes += sent;
        cost_.messages += sent > 0;
        cost_.rounds += sent + received > 0;
    }

    /// What the gather leaves here.
    [[nodiscard]] std::size_t held() const {
        std::size_t bytes = 0;
        for (int r = 0; r < size_; ++r)
            if (pattern_ != exchange_pattern::direct)
                bytes += whole(r);
            else if (r != rank_)
                bytes += k_or_kv(r, of(fetched_, r));
        return bytes;
    }

    void gather() {
        switch (pattern_) {
        case exchange_pattern::direct: {
            per_rows<ledger::lease> packed;
            for (int distance = 1; distance < size_; ++distance) {
                const positions& rows = of(sent_, after(distance));
                const positions* const wanted = &rows;
                packed.next_round(std::span(&wanted, 1),
                                  [&](const positions& these) { return memory_.take(k_or_kv(rank_, these)); });
                round(distance, k_or_kv(rank_, rows), k_or_kv(before(distance), of(fetched_, before(distance))));
            }
            break;
        }
        case exchange_pattern::ring:
            for (int step = 0; step + 1 < size_; ++step) round(1, whole(before(step)), whole(before(step + 1)));
            break;
        case exchange_pattern::doubling:
            for (int held = 1; held < size_; held *= 2) {
                std::size_t sent = 0, received = 0;
                for (int i = 0; i < std::min(held, size_ - held); ++i)
                    sent += whole(after(i)), received += whole(after((held + i) % size_));
                round(-held, sent, received);
            }
            break;
        }
    }

    /// ... while `travelling` does.
    template <class Scratch>
    void compute(int first, int end, const Scratch& scratch, std::span<const step::message> travelling = {}) {
        std::vector<positions> keys;
        for (int distance = first; distance < end; ++distance)
            if (!of(fetched_, before(distance)).empty()) keys.push_back(of(fetched_, before(distance)));
        if (keys.empty()) return p_.tell(travelling);
        p_.tell(travelling, rank_, keys);
        static_cast<void>(memory_.take(scratch(std::span<const positions>(keys))));
    }

    /// Distances [first, end) are computed while V of the ones after them travels.
    template <class Scratch>
    void each_round(const Scratch& scratch) {
        if (stream_ == 0) return compute(0, size_, scratch);
        per_rows<ledger::lease> packed;
        ledger::lease here;
        for (int first = 0, end = 1; first < size_;) {
            const int next = std::min(end + stream_, size_);
            std::vector<const positions*> wanted;
            std::vector<step::message> travelling;
            std::size_t received = 0, sent = 0;
            for (int distance = end; distance < next; ++distance) {
                wanted.push_back(&of(sent_, after(distance)));
                const std::size_t bytes = v(rank_, *wanted.back());
                sent += bytes;
                cost_.messages += bytes > 0;
                travelling.push_back(p_.message(distance, bytes));
                received += v(before(distance), of(fetched_, before(distance)));
            }
            packed.next_round(wanted, [&](const positions& these) { return memory_.take(v(rank_, these)); });
            cost_.bytes += sent;
            cost_.rounds += sent + received > 0;
            ledger::lease arriving = memory_.take(received);
            compute(first, end, scratch, travelling);
            here = std::move(arriving);
            first = end;
            end = next;
        }
    }

    const problem& p_;
    int rank_, size_, stream_;
    exchange_pattern pattern_;
    std::vector<positions> fetched_,
        sent_; // of each rank's keys, what this one computes with; of its own, what each does
    cost cost_;
    ledger memory_;
};

} // namespace seqpar::plan
