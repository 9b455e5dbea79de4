#pragma once

#include <seqpar/core/payload.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace seqpar {

/// What one rank has sent. Messages and bytes count what goes out to other ranks: what a rank keeps is no message.
struct traffic {
    std::int64_t calls = 0;    ///< operations; outside of any, exchanges
    std::int64_t messages = 0; ///< messages of at least one byte
    std::int64_t bytes = 0;    ///< ghosts by their size on the wire
    std::int64_t rounds = 0;   ///< sets of exchanges posted between two waits; a native collective has none

    traffic& operator+=(const traffic& other) noexcept {
        calls += other.calls;
        messages += other.messages;
        bytes += other.bytes;
        rounds += other.rounds;
        return *this;
    }
    friend bool operator==(const traffic&, const traffic&) = default;
};

/// The traffic of one rank by the name of the operation that it is for. An operation inside another belongs to the outer
/// one: what a preflight gathers is the preflight's. Used from one thread.
class meter {
public:
    /// The traffic of one name; zeros if nothing of that name happened.
    [[nodiscard]] traffic of(std::string_view name) const {
        const auto found = by_name_.find(name);
        return found == by_name_.end() ? traffic{} : found->second;
    }

    /// All that a strategy causes: the sum over the names, "preflight", "split" and "barrier" left out.
    [[nodiscard]] traffic payload() const {
        traffic sum;
        for (const auto& entry : by_name_)
            if (is_payload(entry.first)) sum += entry.second;
        return sum;
    }

    [[nodiscard]] const std::map<std::string, traffic, std::less<>>& by_name() const noexcept { return by_name_; }

    /// Counts from zero again.
    void reset() {
        by_name_.clear();
        round_open_ = false;
    }

    /// Ends the operation that it was made for, if that is not inside another. Movable.
    class operation {
    public:
        operation() = default;
        operation(operation&&) noexcept = default;
        operation& operator=(operation&&) = delete;
        ~operation() {
            if (counts_) counts_->current_.clear();
        }

    private:
        friend class meter;
        explicit operation(std::shared_ptr<meter> counts) noexcept : counts_(std::move(counts)) {}
        std::shared_ptr<meter> counts_;
    };

    /// Begins an operation, and counts a call of it, unless one is under way already.
    [[nodiscard]] static operation begin(const std::shared_ptr<meter>& counts, std::string_view name) {
        if (!counts->current_.empty()) return {};
        counts->current_ = name;
        ++counts->by_name_[counts->current_].calls;
        return operation(counts);
    }

    /// Counts an exchange that sends and receives that many bytes to and from other ranks.
    void exchanged(std::size_t sent, std::size_t received) {
        if (sent == 0 && received == 0) return;
        traffic& now = current();
        if (current_.empty()) ++now.calls;
        if (!round_open_) ++now.rounds;
        round_open_ = true;
        count_sent(now, sent);
    }

    /// Counts one part of a native collective.
    void sent(std::size_t bytes) { count_sent(current(), bytes); }

    /// A wait for something: what is posted after it belongs to another round.
    void waited() noexcept { round_open_ = false; }

private:
    [[nodiscard]] traffic& current() { return by_name_[current_.empty() ? "exchange" : current_]; }

    static void count_sent(traffic& now, std::size_t bytes) noexcept {
        if (bytes == 0) return;
        ++now.messages;
        now.bytes += static_cast<std::int64_t>(bytes);
    }

    std::map<std::string, traffic, std::less<>> by_name_;
    std::string current_; // empty: none
    bool round_open_ = false;
};

} // namespace seqpar
