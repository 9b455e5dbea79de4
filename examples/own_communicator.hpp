#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/split_place.hpp>
#include <seqpar/core/error.hpp>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

/// The "network": a board on which ranks pin their messages, each with its group, sender, receiver and number.
struct board {
    using label = std::tuple<std::string, int, int, int>;
    std::mutex mutex;
    std::condition_variable pinned;
    std::map<label, std::vector<std::byte>> messages;
};

/// A complete communicator. What is sent is pinned at once; what is expected knows its number from when it is posted, so
/// that it takes the right message whenever it is waited for.
class board_communicator {
public:
    struct request {
        std::shared_ptr<board> on; // null: nothing to wait for
        board::label which;
        seqpar::incoming in;
        bool test() {
            if (!on) return true;
            const std::lock_guard lock(on->mutex);
            return on->messages.contains(which);
        }
        void wait() {
            if (!on) return;
            std::unique_lock lock(on->mutex);
            on->pinned.wait(lock, [&] { return on->messages.contains(which); });
            const std::vector<std::byte> message = std::move(on->messages.extract(which).mapped());
            if (message.size() != in.bytes) throw seqpar::communication_error("sizes differ");
            if (in.data != nullptr) std::copy(message.begin(), message.end(), in.data);
            lock.unlock();
            on.reset();
        }
    };
    board_communicator(std::shared_ptr<board> on, int rank, int size, std::string group = "all")
        : on_(std::move(on)), rank_(rank), size_(size), group_(std::move(group)), posted_(std::make_shared<counts>()) {}

    int rank() const { return rank_; }
    int size() const { return size_; }
    request exchange(seqpar::outgoing out, int to, seqpar::incoming in, int from) {
        if (out.bytes != 0) {
            std::vector<std::byte> message(out.bytes);
            if (out.data != nullptr) std::copy_n(out.data, out.bytes, message.begin());
            const std::lock_guard lock(on_->mutex);
            on_->messages[{group_, rank_, to, posted_->sent[to]++}] = std::move(message);
            on_->pinned.notify_all();
        }
        if (in.bytes == 0) return {};
        return {on_, {group_, from, rank_, posted_->expected[from]++}, in};
    }
    board_communicator split(int color, int key) {
        const auto [rank, size] = seqpar::split_place(*this, color, key);
        const std::string group = group_ + "/" + std::to_string(posted_->splits++) + ":" + std::to_string(color);
        return {on_, rank, size, group};
    }

private:
    struct counts {
        std::map<int, int> sent, expected; // by rank
        int splits = 0;
    };
    std::shared_ptr<board> on_;
    int rank_, size_;
    std::string group_;
    std::shared_ptr<counts> posted_; // copies count together
};
static_assert(seqpar::communicator<board_communicator>);
