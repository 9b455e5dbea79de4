#pragma once

#include <seqpar/comm/simgrid/run_state.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace seqpar::detail::simulated {

/// What the ranks of one group share. No lock: one rank runs at a time.
class group {
public:
    group(std::shared_ptr<run_state> run, std::vector<int> members)
        : run_(std::move(run)), members_(std::move(members)), splits_begun_(members_.size()) {}

    [[nodiscard]] int size() const noexcept { return static_cast<int>(members_.size()); }
    [[nodiscard]] run_state& run() noexcept { return *run_; }
    /// Its rank in the run.
    [[nodiscard]] int known(int rank) const { return members_[static_cast<std::size_t>(rank)]; }

    /// Posts one side of a message. If the other one is there, copies, and the time that it takes begins.
    void meet(half& mine, int from, int to) {
        mine.from = known(from), mine.to = known(to);
        run_->prepare_place();
        queue& waiting = unmet_[key(from, to)];
        if (waiting.first == nullptr || waiting.first->sends() == mine.sends()) {
            (waiting.first == nullptr ? waiting.first : waiting.last->next) = &mine;
            waiting.last = &mine;
            if (mine.from == mine.to) return;
            mine.place = run_->take_place();
            run_->post(mine); // lets others run
            return;
        }
        const std::shared_ptr<half> other = waiting.first->shared_from_this(); // its owner may give it up meanwhile
        waiting.first = other->next;
        if (waiting.first == nullptr) unmet_.erase(key(from, to));
        const outgoing& out = mine.sends() ? mine.out : other->out;
        const incoming& in = mine.sends() ? other->in : mine.in;
        if (out.bytes != in.bytes) {
            other->fault = mine.fault = size_mismatch(from, out.bytes, to, in.bytes) + in_operation();
        } else {
            copy_message(out, in);
            if (mine.from != mine.to) {
                run_->count(mine.from, mine.to, out.bytes);
                mine.place = other->place;
                run_->post(mine); // lets others run
            }
        }
        other->met = mine.met = true;
        if (!other->fault.empty()) run_->wake(other->owner());
    }

    /// Takes back a half that has not met its other side.
    void withdraw(half& mine, int from, int to) noexcept {
        const auto found = unmet_.find(key(from, to));
        if (mine.met || found == unmet_.end()) return;
        queue& waiting = found->second;
        half* before = nullptr;
        for (half* each = waiting.first; each != nullptr; before = each, each = each->next) {
            if (each != &mine) continue;
            (before == nullptr ? waiting.first : before->next) = mine.next;
            if (waiting.last == &mine) waiting.last = before;
            break;
        }
        if (waiting.first == nullptr) unmet_.erase(found);
    }

    /// This rank's place in the group of its color, once all ranks have come here: no message, and no time. Of each split,
    /// O(P log P) for all ranks together.
    [[nodiscard]] std::pair<std::shared_ptr<group>, int> split(int rank, int color, int key) {
        const std::size_t number = splits_begun_[static_cast<std::size_t>(rank)]++;
        splitting& now = splits_[number];
        now.wishes.emplace_back(color, key, rank);
        if (static_cast<int>(now.wishes.size()) == size()) {
            deal(now);
            for (const int member : members_) run_->wake(member);
        }
        run_->await(known(rank), [&] { return now.dealt; });
        if (!now.dealt) run_->throw_aborted();
        auto place = std::move(now.places[static_cast<std::size_t>(rank)]);
        if (++now.gone == size()) splits_.erase(number);
        return place;
    }

private:
    struct queue {
        half *first = nullptr, *last = nullptr;
    };
    struct splitting {
        std::vector<std::tuple<int, int, int>> wishes; // color, key, rank
        std::vector<std::pair<std::shared_ptr<group>, int>> places;
        bool dealt = false;
        int gone = 0;
    };

    [[nodiscard]] static std::uint64_t key(int from, int to) noexcept {
        return static_cast<std::uint64_t>(from) << 32 | static_cast<std::uint32_t>(to);
    }

    void deal(splitting& now) const {
        std::sort(now.wishes.begin(), now.wishes.end());
        now.places.resize(now.wishes.size());
        for (std::size_t first = 0; first < now.wishes.size();) {
            std::vector<int> members;
            std::size_t end = first;
            for (; end < now.wishes.size() && std::get<0>(now.wishes[end]) == std::get<0>(now.wishes[first]); ++end)
                members.push_back(known(std::get<2>(now.wishes[end])));
            const auto made = std::make_shared<group>(run_, std::move(members));
            for (std::size_t i = first; i < end; ++i)
                now.places[static_cast<std::size_t>(std::get<2>(now.wishes[i]))] = {made, static_cast<int>(i - first)};
            first = end;
        }
        now.dealt = true;
    }

    std::shared_ptr<run_state> run_;
    std::vector<int> members_; // ranks of the run
    std::unordered_map<std::uint64_t, queue> unmet_;
    std::vector<std::size_t> splits_begun_;
    std::unordered_map<std::size_t, splitting> splits_; // references to its entries stay
};

} // namespace seqpar::detail::simulated
