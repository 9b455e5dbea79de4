#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/comm/self.hpp>
#include <seqpar/core/mixed.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace seqpar {

/// A communicator that holds one, and does to messages all that the contract allows: for tests of whoever relies on more.
/// What is posted is held back and let go later, in a random order, some of it while others are waited for or tested;
/// messages travel in up to four pieces; test() is late in telling; pieces are waited for in a random order; the rank dozes
/// off between. Between two ranks messages stay in the order posted, one way and the other, and all that is held back is
/// let go before a wait blocks: what runs on C runs on this.
///
/// seed        the same on all ranks, since they cut messages alike: by its sizes. Each rank draws its own order from it.
///
/// A rank's copies and splits hold messages back together. From one thread of the rank, and through this alone: a message
/// that another communicator's waits for may be held back here. What the inner model has of its own, a barrier or an
/// all-to-all, is left aside. A message of b bytes is cut in O(1); letting go costs O(ranks that are held back from).
template <communicator C>
class shuffled {
    /// What has become of an exchange: its pieces in flight, and how many are held back. Given up: nobody waits any more.
    struct parts {
        std::vector<request_t<C>> flying;
        std::size_t held = 0;
        bool given_up = false;
    };

    struct piece {
        outgoing out;
        incoming in;
        std::shared_ptr<parts> of;
    };

    /// Pieces that must go in this order: between two ranks of a group, one way.
    struct queue {
        std::uint64_t group;
        int peer;
        bool sends;
        C through;
        std::deque<piece> pieces;
    };

    /// What a rank holds back, whatever the group.
    class held_back {
    public:
        explicit held_back(std::uint64_t seed) : random_(seed) {}

        [[nodiscard]] std::uint64_t new_group() noexcept { return ++groups_; }
        [[nodiscard]] bool empty() const noexcept { return queues_.empty(); }
        [[nodiscard]] bool coin() { return below(2) == 0; }
        [[nodiscard]] std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }

        void keep(std::uint64_t group, const C& through, int peer, piece p) {
            const bool sends = p.out.bytes != 0;
            auto where = std::find_if(queues_.begin(), queues_.end(), [&](const queue& q) {
                return q.group == group && q.peer == peer && q.sends == sends;
            });
            if (where == queues_.end()) where = queues_.insert(queues_.end(), queue{group, peer, sends, through, {}});
            ++p.of->held;
            where->pieces.push_back(std::move(p));
        }

        /// Posts one piece, of a random queue.
        void let_one_go() {
            if (queues_.empty()) return;
            const auto at = queues_.begin() + static_cast<std::ptrdiff_t>(below(queues_.size()));
            piece next = std::move(at->pieces.front());
            at->pieces.pop_front();
            C through = at->through;
            const int peer = at->peer;
            if (at->pieces.empty()) queues_.erase(at);
            --next.of->held;
            if (!next.of->given_up) next.of->flying.push_back(through.exchange(next.out, peer, next.in, peer));
        }

        void doze() {
            switch (below(8)) {
            case 0:
                std::this_thread::sleep_for(std::chrono::microseconds(below(50)));
                break;
            case 1:
            case 2:
                std::this_thread::yield();
                break;
            default:
                break;
            }
        }

    private:
        std::mt19937_64 random_;
        std::uint64_t groups_ = 0;
        std::vector<queue> queues_; // none of them empty
    };

public:
    class request {
    public:
        request() = default;
        request(request&& other) noexcept : parts_(std::move(other.parts_)), rank_(std::move(other.rank_)) {}
        request& operator=(request&& other) noexcept {
            if (this != &other) {
                give_up();
                parts_ = std::move(other.parts_);
                rank_ = std::move(other.rank_);
            }
            return *this;
        }
        ~request() { give_up(); }

        void wait() {
            if (!parts_) return;
            const std::shared_ptr<held_back> rank = rank_;
            rank->doze();
            // Everything, since the one who is waited for may wait for any of it.
            while (!rank->empty()) {
                rank->let_one_go();
                if (rank->coin()) rank->doze();
            }
            const std::shared_ptr<parts> mine = std::move(parts_);
            auto& flying = mine->flying;
            while (!flying.empty()) {
                std::swap(flying[rank->below(flying.size())], flying.back());
                flying.back().wait();
                flying.pop_back();
            }
            rank->doze();
        }

        [[nodiscard]] bool test() {
            if (!parts_) return true;
            if (rank_->coin()) rank_->let_one_go();
            if (parts_->held != 0 || rank_->below(3) == 0) return false;
            bool done = true;
            for (auto& each : parts_->flying) done = each.test() && done;
            return done;
        }

    private:
        friend class shuffled;

        void give_up() noexcept {
            if (!parts_) return;
            parts_->given_up = true;
            parts_->flying.clear();
            parts_.reset();
        }

        std::shared_ptr<parts> parts_; // null: nothing to wait for
        std::shared_ptr<held_back> rank_;
    };

    shuffled(C inner, std::uint64_t seed)
        : inner_(std::move(inner)), seed_(seed),
          rank_(std::make_shared<held_back>(mixed(seed, static_cast<std::uint64_t>(inner_.rank()) + 1))),
          group_(rank_->new_group()) {}

    [[nodiscard]] int rank() const { return inner_.rank(); }
    [[nodiscard]] int size() const { return inner_.size(); }

    request exchange(outgoing out, int to, incoming in, int from) {
        detail::check_peers(out, to, in, from, size());
        request posted;
        if (out.bytes + in.bytes == 0) return posted;
        posted.parts_ = std::make_shared<parts>();
        posted.rank_ = rank_;
        const auto keep = [&](std::size_t bytes, int peer, const auto& at) {
            for_each_piece(bytes, [&](std::size_t offset, std::size_t count) {
                piece p = at(offset, count);
                p.of = posted.parts_;
                rank_->keep(group_, inner_, peer, std::move(p));
            });
        };
        const auto send = [&] {
            keep(out.bytes, to, [&](std::size_t offset, std::size_t count) {
                return piece{{out.data == nullptr ? nullptr : out.data + offset, count}, {}, {}};
            });
        };
        const auto receive = [&] {
            keep(in.bytes, from, [&](std::size_t offset, std::size_t count) {
                return piece{{}, {in.data == nullptr ? nullptr : in.data + offset, count}, {}};
            });
        };
        send(), receive();
        for (std::size_t now = rank_->below(4); now > 0; --now) rank_->let_one_go();
        rank_->doze();
        return posted;
    }

    shuffled split(int color, int key) {
        while (!rank_->empty()) rank_->let_one_go(); // the split itself waits, and not here
        rank_->doze();
        return shuffled(inner_.split(color, key), seed_, rank_);
    }

private:
    shuffled(C inner, std::uint64_t seed, std::shared_ptr<held_back> rank)
        : inner_(std::move(inner)), seed_(seed), rank_(std::move(rank)), group_(rank_->new_group()) {}

    /// Calls use(offset, count) for the pieces of a message: both of its ends cut it alike.
    template <class Use>
    void for_each_piece(std::size_t bytes, const Use& use) const {
        std::uint64_t draw = mixed(seed_, bytes);
        std::size_t offset = 0;
        for (std::uint64_t more = draw % 4; more > 0 && bytes - offset > 1; --more) {
            draw = mixed(draw, more);
            const std::size_t count = 1 + static_cast<std::size_t>(draw % (bytes - offset - 1));
            use(offset, count);
            offset += count;
        }
        if (offset < bytes) use(offset, bytes - offset);
    }

    C inner_;
    std::uint64_t seed_;
    std::shared_ptr<held_back> rank_;
    std::uint64_t group_;
};

static_assert(communicator<shuffled<self_communicator>>);

} // namespace seqpar
