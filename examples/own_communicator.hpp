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

/// The "network": a board on which ranks pin their messages. A message is known by its line (group, sender, receiver) and
/// by how many were posted on that line before it.
struct board {
    using line = std::tuple<std::string, int, int>;
    using number = std::pair<line, int>;
    std::mutex mutex;
    std::condition_variable changed;
    std::map<line, int> sent, expected, splits;
    std::map<number, std::vector<std::byte>> messages;
};

/// A complete communicator: ranks that share a board. What is sent is pinned at once. What is expected knows its number
/// from when it is posted, and so takes the right message whenever it is waited for.
class board_communicator {
public:
    struct request {
        std::shared_ptr<board> on; // null: nothing to wait for
        board::number which;
        seqpar::incoming in;

        bool test() {
            if (!on) {
                return true;
            }
            const std::lock_guard lock(on->mutex);
            return on->messages.contains(which);
        }
        void wait() {
            if (!on) {
                return;
            }
            std::unique_lock lock(on->mutex);
            on->changed.wait(lock, [&] { return on->messages.contains(which); });
            const std::vector<std::byte> message = std::move(on->messages.extract(which).mapped());
            lock.unlock();
            on.reset();
            if (message.size() != in.bytes) {
                throw seqpar::communication_error("sizes differ");
            }
            if (in.data != nullptr) {
                std::copy(message.begin(), message.end(), in.data);
            }
        }
    };

    board_communicator(std::shared_ptr<board> on, int rank, int size, std::string group = "all")
        : on_(std::move(on)), rank_(rank), size_(size), group_(std::move(group)) {}

    int rank() const { return rank_; }
    int size() const { return size_; }

    request exchange(seqpar::outgoing out, int to, seqpar::incoming in, int from) {
        const std::lock_guard lock(on_->mutex);
        if (out.bytes != 0) {
            const board::line line{group_, rank_, to};
            std::vector<std::byte> message(out.bytes);
            if (out.data != nullptr) {
                std::copy_n(out.data, out.bytes, message.begin());
            }
            on_->messages[{line, on_->sent[line]++}] = std::move(message);
            on_->changed.notify_all();
        }
        if (in.bytes == 0) {
            return {};
        }
        const board::line line{group_, from, rank_};
        return {on_, {line, on_->expected[line]++}, in};
    }

    board_communicator split(int color, int key) {
        const auto [rank, size] = seqpar::split_place(*this, color, key);
        const std::lock_guard lock(on_->mutex);
        const std::string count = std::to_string(on_->splits[{group_, rank_, rank_}]++);
        return {on_, rank, size, group_ + "/" + count + ":" + std::to_string(color)};
    }

private:
    std::shared_ptr<board> on_;
    int rank_, size_;
    std::string group_;
};

static_assert(seqpar::communicator<board_communicator>);
