#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/mixed.hpp>
#include <seqpar/core/operation.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace seqpar {

/// What all ranks of `checking` communicators do, seen from one place. One for a run, shared by its ranks.
class witness {
    /// One side of a message.
    struct side {
        int rank, peer; // as the first group knows them; peer -1: not known yet
        bool sends;
        const std::byte* data;
        std::size_t bytes;
        std::string operation;
        std::uint64_t hash = 0; // of what is sent
        bool met = false;
    };
    using sides = std::vector<std::shared_ptr<side>>;

    struct rank_state {
        bool came = false, left = false;
        bool failed = false;              // left by an exception, which says more than we could
        const sides* waits_for = nullptr; // null: it does not wait
        sides open;                       // posted and not waited for
        std::weak_ptr<void> seated;
    };

    struct group {
        std::vector<int> known; // by rank in the group, as the first group knows it; -1: not there yet
    };

    struct channel {
        std::uint64_t group;
        int from, to;
        friend auto operator<=>(const channel&, const channel&) = default;
    };

public:
    /// ranks       of the run.
    /// patience    how long one may wait for another that does something else; then it is taken for a deadlock.
    explicit witness(int ranks, std::chrono::milliseconds patience = std::chrono::minutes(1))
        : patience_(patience), ranks_(static_cast<std::size_t>(ranks)), groups_(1) {
        for (int r = 0; r < ranks; ++r) groups_[0].known.push_back(r);
    }

    /// After all ranks have ended. Throws communication_error that lists what was left over: messages of which one side was
    /// posted only, and requests that were given up without a wait.
    void close() {
        const std::lock_guard lock(mutex_);
        std::string all;
        for (const auto& [where, queue] : unmet_)
            for (const auto& each : queue)
                all += "\n  rank " + std::to_string(each->rank) + ": never met: " + text(*each);
        for (const std::string& each : given_up_) all += "\n  " + each;
        if (!all.empty()) throw communication_error("left over when all ranks have ended:" + all);
    }

    class place;

    /// An exchange that was posted. Movable.
    class entry {
    public:
        entry() = default;
        entry(entry&& other) noexcept : sees_(std::move(other.sees_)), sides_(std::move(other.sides_)) {}
        entry& operator=(entry&& other) noexcept {
            if (this != &other) {
                withdraw();
                sees_ = std::move(other.sees_);
                sides_ = std::move(other.sides_);
            }
            return *this;
        }
        ~entry() { withdraw(); }

        [[nodiscard]] bool open() const noexcept { return sees_ != nullptr; }

        /// That this rank waits for it, while it lives.
        class waiting {
        public:
            waiting(const waiting&) = delete;
            waiting& operator=(const waiting&) = delete;
            ~waiting() {
                const std::lock_guard lock(sees_->mutex_);
                who_.waits_for = nullptr;
            }

        private:
            friend class entry;
            explicit waiting(const entry& what)
                : sees_(what.sees_), who_(sees_->ranks_[static_cast<std::size_t>(what.sides_.front()->rank)]) {
                const std::lock_guard lock(sees_->mutex_);
                who_.waits_for = &what.sides_;
            }
            std::shared_ptr<witness> sees_;
            rank_state& who_;
        };
        [[nodiscard]] waiting waits() const { return waiting(*this); }

        /// Throws if this wait has no end.
        void judge(std::chrono::steady_clock::duration waited) const {
            const std::lock_guard lock(sees_->mutex_);
            sees_->judge(sides_, waited);
        }

        /// It has been waited for.
        void complete() {
            const std::shared_ptr<witness> sees = std::move(sees_);
            const sides mine = std::exchange(sides_, {});
            const std::lock_guard lock(sees->mutex_);
            sees->close(mine);
            for (const auto& each : mine)
                if (each->sends && hash_of(each->data, each->bytes) != each->hash)
                    throw communication_error("rank " + std::to_string(each->rank) +
                                              " has changed bytes while they were sent: " + sees->text(*each));
        }

    private:
        friend class place;

        void withdraw() noexcept {
            if (sees_ == nullptr) return;
            const std::lock_guard lock(sees_->mutex_);
            sees_->close(sides_);
            const bool quietly = std::uncaught_exceptions() != 0 || !sees_->trouble_.empty();
            for (const auto& each : sides_) {
                for (auto& [where, queue] : sees_->unmet_) std::erase(queue, each);
                if (!quietly) sees_->note_given_up(*each);
            }
            sides_.clear();
            sees_ = nullptr;
        }

        std::shared_ptr<witness> sees_; // null: nothing to wait for
        sides sides_;
    };

    /// Where a rank stands in a group. Copies of one rank are of one place.
    class place {
    public:
        [[nodiscard]] entry post(outgoing out, int to, incoming in, int from) {
            entry posted;
            if (out.bytes + in.bytes == 0) return posted;
            const std::lock_guard lock(sees_->mutex_);
            if (!sees_->trouble_.empty()) throw aborted(sees_->trouble_);
            posted.sees_ = sees_;
            const bool to_itself = to == rank_ && from == rank_ && static_cast<const std::byte*>(in.data) == out.data;
            const std::string now = detail::operation_text();
            if (out.bytes != 0)
                post({known(rank_), known(to), true, out.data, out.bytes, now, hash_of(out.data, out.bytes)}, to, false,
                     posted.sides_);
            if (in.bytes != 0)
                post({known(rank_), known(from), false, in.data, in.bytes, now}, from, to_itself, posted.sides_);
            return posted;
        }

        /// The place in the group that a split has made.
        [[nodiscard]] place split(int color, int rank, int size) {
            const std::lock_guard lock(sees_->mutex_);
            auto& id = sees_->splits_[{group_, (*splits_)++, color}];
            if (id == 0) {
                id = sees_->groups_.size();
                sees_->groups_.push_back({std::vector<int>(static_cast<std::size_t>(size), -1)});
            }
            sees_->groups_[id].known[static_cast<std::size_t>(rank)] = known(rank_);
            return place(sees_, seat_, id, rank);
        }

    private:
        friend class witness;
        place(std::shared_ptr<witness> sees, std::shared_ptr<void> its, std::uint64_t group, int rank)
            : sees_(std::move(sees)), seat_(std::move(its)), group_(group), rank_(rank),
              splits_(std::make_shared<int>(0)) {}

        [[nodiscard]] int known(int rank) const { return sees_->groups_[group_].known[static_cast<std::size_t>(rank)]; }

        void post(side mine, int peer, bool may_overlap, sides& into) {
            witness& all = *sees_;
            rank_state& me = all.ranks_[static_cast<std::size_t>(mine.rank)];
            if (!may_overlap) all.refuse_overlap(mine, me);
            auto entered = std::make_shared<side>(std::move(mine));
            std::deque<std::shared_ptr<side>>& queue =
                all.unmet_[entered->sends ? channel{group_, rank_, peer} : channel{group_, peer, rank_}];
            if (queue.empty() || queue.front()->sends == entered->sends) {
                queue.push_back(entered);
            } else {
                const std::shared_ptr<side> other = queue.front();
                queue.pop_front();
                other->met = entered->met = true;
                if (other->bytes != entered->bytes) {
                    const side &out = entered->sends ? *entered : *other, &in = entered->sends ? *other : *entered;
                    throw communication_error(detail::size_mismatch(out.rank, out.bytes, in.rank, in.bytes) + "; " +
                                              all.text(out) + ", " + all.text(in));
                }
            }
            me.open.push_back(entered);
            into.push_back(std::move(entered));
        }

        std::shared_ptr<witness> sees_;
        std::shared_ptr<void> seat_; // with the last of a rank's, the rank leaves
        std::uint64_t group_;
        int rank_;
        std::shared_ptr<int> splits_; // how many so far, of all copies
    };

    /// The place of a rank in the first group. Throws refusal if the witness is for another number of ranks, or the rank
    /// has left already.
    [[nodiscard]] static place seat(const std::shared_ptr<witness>& all, int rank, int size) {
        const std::lock_guard lock(all->mutex_);
        if (static_cast<std::size_t>(size) != all->ranks_.size())
            throw refusal(detail::concat("checking: a group of ", size, " ranks and a witness for ", all->ranks_.size(),
                                         ": they must be equal"));
        rank_state& me = all->ranks_[static_cast<std::size_t>(rank)];
        if (me.left)
            throw refusal(detail::concat("checking: rank ", rank,
                                         " gives up its last communicator and makes another; "
                                         "keep one until the rank ends"));
        std::shared_ptr<void> its = me.seated.lock();
        if (its == nullptr) {
            its = std::shared_ptr<void>(&me, [all](void* who) {
                const std::lock_guard leaving(all->mutex_);
                rank_state& leaver = *static_cast<rank_state*>(who);
                leaver.left = true;
                leaver.failed = std::uncaught_exceptions() != 0;
                leaver.seated.reset(); // or it would keep `all`, and all it
            });
            me.seated = its;
            me.came = true;
        }
        return place(all, its, 0, rank);
    }

private:
    [[nodiscard]] static std::uint64_t hash_of(const std::byte* data, std::size_t bytes) noexcept {
        std::uint64_t hash = bytes;
        for (std::size_t i = 0; data != nullptr && i < bytes; ++i)
            hash = mixed(hash, std::to_integer<std::uint64_t>(data[i]));
        return hash;
    }

    /// "96 bytes from rank 2 (in ring forward, step 1)"
    [[nodiscard]] std::string text(const side& of) const {
        return std::to_string(of.bytes) + " bytes " + (of.sends ? "to" : "from") + " rank " + std::to_string(of.peer) +
               (of.operation.empty() ? "" : " (in " + of.operation + ')');
    }

    void refuse_overlap(const side& mine, const rank_state& me) const {
        const std::less<const std::byte*> before;
        for (const auto& other : me.open) {
            if (mine.data == nullptr || other->data == nullptr || (mine.sends && other->sends)) continue;
            if (before(mine.data, other->data + other->bytes) && before(other->data, mine.data + mine.bytes))
                throw communication_error("rank " + std::to_string(mine.rank) +
                                          " uses a buffer twice at once: " + text(mine) + " and " + text(*other));
        }
    }

    void close(const sides& done) noexcept {
        for (const auto& each : done) std::erase(ranks_[static_cast<std::size_t>(each->rank)].open, each);
    }

    void note_given_up(const side& what) noexcept {
        try {
            given_up_.push_back("rank " + std::to_string(what.rank) + ": given up without a wait: " + text(what));
        } catch (const std::exception&) { // no memory: it has been said that something was
        }
    }

    [[nodiscard]] static bool can_move(const sides& waited_for) {
        return std::all_of(waited_for.begin(), waited_for.end(), [](const auto& each) { return each->met; });
    }

    void judge(const sides& mine, std::chrono::steady_clock::duration waited) {
        if (!trouble_.empty()) throw aborted(trouble_);
        if (can_move(mine)) return;
        // Whoever failed says why, and ends the others' waits.
        if (std::any_of(ranks_.begin(), ranks_.end(), [](const rank_state& r) { return r.failed; }) &&
            waited < patience_)
            return;
        const bool for_one_gone = std::any_of(mine.begin(), mine.end(), [this](const auto& each) {
            return !each->met && each->peer >= 0 && ranks_[static_cast<std::size_t>(each->peer)].left;
        });
        const bool stuck = std::all_of(ranks_.begin(), ranks_.end(), [](const rank_state& r) {
            return r.left || (r.waits_for != nullptr && !can_move(*r.waits_for));
        });
        if (!for_one_gone && !stuck && waited < patience_) return;
        trouble_ = for_one_gone || stuck ? "deadlock: "
                                         : detail::concat("no end of a wait within ",
                                                          static_cast<double>(patience_.count()) / 1000, " s: ");
        for (std::size_t r = 0; r < ranks_.size(); ++r) trouble_ += (r == 0 ? "rank " : "; rank ") + status(r);
        throw communication_error(trouble_);
    }

    [[nodiscard]] std::string status(std::size_t r) const {
        const rank_state& of = ranks_[r];
        std::string all = std::to_string(r);
        if (of.left) return all + (of.failed ? " has failed" : " has left");
        if (!of.came) return all + " has not come";
        if (of.waits_for == nullptr) return all + " waits for nothing";
        all += " waits for ";
        bool first = true;
        for (const auto& each : *of.waits_for) {
            if (each->met) continue;
            all += (first ? "" : " and ") + text(*each);
            first = false;
        }
        return first ? all + "what is there" : all;
    }

    std::mutex mutex_;
    std::chrono::milliseconds patience_;
    std::vector<rank_state> ranks_;
    std::deque<group> groups_; // [0] is the first
    std::map<channel, std::deque<std::shared_ptr<side>>> unmet_;
    std::map<std::tuple<std::uint64_t, int, int>, std::uint64_t> splits_; // (group, how manieth, color): its group
    std::vector<std::string> given_up_;
    std::string trouble_; // empty: none
};

} // namespace seqpar
