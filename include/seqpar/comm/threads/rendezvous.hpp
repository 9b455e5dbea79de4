#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/comm/threads/run_state.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/operation.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::detail::threads {

/// One side of a message that came before its other side.
struct post {
    outgoing out; // bytes != 0: the sending side
    incoming in;  // bytes != 0: the receiving side
    bell& owner;
    bool finished = false; // guarded by owner.mutex, as is failure
    std::string failure;

    void finish(std::string why) {
        {
            const std::lock_guard lock(owner.mutex);
            failure = std::move(why);
            finished = true;
        }
        owner.rung.notify_all();
    }
};

/// What the ranks of one group share. A message waits in the mailbox of the rank that receives it, whichever side was
/// posted first, so that memory grows with messages under way and not with pairs of ranks.
class group {
public:
    group(int size, std::shared_ptr<run_state> run) : run_(std::move(run)), boxes_(static_cast<std::size_t>(size)) {}

    [[nodiscard]] int size() const noexcept { return static_cast<int>(boxes_.size()); }
    [[nodiscard]] run_state& run() noexcept { return *run_; }
    [[nodiscard]] const std::shared_ptr<run_state>& shared_run() const noexcept { return run_; }

    /// To be called by each rank before it uses the group.
    void join(int rank, bell& its) noexcept { boxes_[static_cast<std::size_t>(rank)].owner = &its; }
    /// The rank has left the run. One that has not joined yet is about to.
    [[nodiscard]] bool has_ended(int rank) const noexcept {
        const bell* its = boxes_[static_cast<std::size_t>(rank)].owner;
        return its != nullptr && its->ended;
    }
    /// Its rank in the run.
    [[nodiscard]] int known(int rank) const noexcept {
        const bell* its = boxes_[static_cast<std::size_t>(rank)].owner;
        return its != nullptr ? its->rank : rank;
    }

    /// Posts one side of a message. If the other side is there, copies and returns null: the second to come does the work,
    /// so that a message needs no buffer of its own, and arrives whoever waits first.
    [[nodiscard]] std::shared_ptr<post> meet(int from, int to, outgoing out, incoming in, bell& owner) {
        mailbox& box = boxes_[static_cast<std::size_t>(to)];
        std::shared_ptr<post> other;
        {
            const std::lock_guard lock(box.mutex);
            const auto first = box.posts.lower_bound(from); // of one sender, entries lie in the order posted
            const bool sends = out.bytes != 0;
            if (first == box.posts.end() || first->first != from || (first->second->out.bytes != 0) == sends) {
                auto mine = std::shared_ptr<post>(new post{out, in, owner, false, {}});
                box.posts.emplace(from, mine);
                return mine;
            }
            other = first->second;
            box.posts.erase(first);
        }
        const outgoing& source = out.bytes != 0 ? out : other->out;
        const incoming& target = in.bytes != 0 ? in : other->in;
        if (source.bytes != target.bytes) {
            const std::string why = size_mismatch(from, source.bytes, to, target.bytes) + in_operation();
            other->finish(why);
            throw communication_error(why);
        }
        copy_message(source, target);
        other->finish({});
        return nullptr;
    }

    /// Takes a post out again. False: it has met its other side already.
    [[nodiscard]] bool take_back(int from, int to, const std::shared_ptr<post>& mine) {
        mailbox& box = boxes_[static_cast<std::size_t>(to)];
        const std::lock_guard lock(box.mutex);
        const auto range = box.posts.equal_range(from);
        for (auto it = range.first; it != range.second; ++it) {
            if (it->second == mine) {
                box.posts.erase(it);
                return true;
            }
        }
        return false;
    }

    /// The group that the `members` ranks of one color share after a split: the first to ask makes it, the last takes it out
    /// of the table. No rank gets here for the next split before all have been here for this one: they ask each other first.
    [[nodiscard]] std::shared_ptr<group> subgroup(int color, int members) {
        const std::lock_guard lock(splits_mutex_);
        auto& [made, missing] = splits_[color];
        if (!made) {
            made = std::make_shared<group>(members, run_);
            missing = members;
        }
        std::shared_ptr<group> mine = made;
        if (--missing == 0) splits_.erase(color);
        return mine;
    }

private:
    struct mailbox {
        std::atomic<bell*> owner = nullptr;
        std::mutex mutex;
        std::multimap<int, std::shared_ptr<post>> posts; // by sender; of one sender either sends or receives
    };

    std::shared_ptr<run_state> run_;
    std::vector<mailbox> boxes_;
    std::mutex splits_mutex_;
    std::map<int, std::pair<std::shared_ptr<group>, int>> splits_; // by color: the group, ranks still to come
};

/// A post that its owner still has to wait for, or withdraw.
class pending {
public:
    pending() = default;
    pending(std::shared_ptr<group> where, int from, int to, outgoing out, incoming in, bell& owner)
        : from_(from), to_(to) {
        post_ = where->meet(from, to, out, in, owner);
        if (post_) group_ = std::move(where);
    }
    pending(pending&& other) noexcept = default;
    pending& operator=(pending&& other) noexcept {
        if (this != &other) {
            withdraw();
            group_ = std::move(other.group_);
            post_ = std::move(other.post_);
            from_ = other.from_;
            to_ = other.to_;
        }
        return *this;
    }
    ~pending() { withdraw(); }

    void wait() {
        if (!post_) return;
        {
            std::unique_lock lock(post_->owner.mutex);
            post_->owner.sleep(lock, [&] { return decided(); });
        }
        const std::shared_ptr<group> where = group_;
        const std::shared_ptr<post> mine = post_;
        if (withdraw()) {
            if (where->run().failed()) where->run().throw_aborted();
            throw communication_error(never_comes(*where, *mine));
        }
        if (!mine->failure.empty()) throw communication_error(mine->failure);
    }

    [[nodiscard]] bool test() {
        if (!post_) return true;
        const std::lock_guard lock(post_->owner.mutex);
        return decided();
    }
    [[nodiscard]] bool wait_until(std::chrono::steady_clock::time_point last) {
        if (!post_) return true;
        std::unique_lock lock(post_->owner.mutex);
        return post_->owner.sleep_until(lock, last, [&] { return decided(); });
    }

private:
    /// The rank at the other end.
    [[nodiscard]] int peer() const noexcept { return post_->out.bytes != 0 ? to_ : from_; }
    /// Whether wait() returns, or throws, at once.
    [[nodiscard]] bool decided() const noexcept {
        return post_->finished || group_->run().failed() || group_->has_ended(peer());
    }
    [[nodiscard]] std::string never_comes(group& where, const post& mine) const {
        const bool sends = mine.out.bytes != 0;
        return concat("rank ", where.known(sends ? to_ : from_), " has ended while rank ", mine.owner.rank,
                      " waits for a message of ", sends ? mine.out.bytes : mine.in.bytes, " bytes ",
                      sends ? "to" : "from", " it", in_operation());
    }

    /// True if the message will never move, false if it has moved: a copy under way is waited for.
    bool withdraw() {
        if (!post_) return false;
        bool unmoved = false;
        std::unique_lock lock(post_->owner.mutex);
        if (!post_->finished) {
            lock.unlock(); // a mailbox is never locked inside a bell
            unmoved = group_->take_back(from_, to_, post_);
            lock.lock();
            if (!unmoved) post_->owner.rung.wait(lock, [&] { return post_->finished; });
        }
        lock.unlock();
        post_.reset();
        group_.reset();
        return unmoved;
    }

    std::shared_ptr<group> group_;
    std::shared_ptr<post> post_;
    int from_ = 0;
    int to_ = 0;
};

} // namespace seqpar::detail::threads
