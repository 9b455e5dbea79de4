#pragma once

#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace seqpar {

/// The name of what a rank did, cut off after 31 characters.
class span_name {
public:
    span_name() = default;
    span_name(std::string_view text) { // NOLINT: a text is a name
        std::copy_n(text.begin(), std::min(text.size(), text_.size() - 1), text_.begin());
    }
    span_name(const char* text) : span_name(std::string_view(text)) {} // NOLINT: so is a literal

    [[nodiscard]] std::string_view text() const noexcept { return text_.data(); }
    friend bool operator==(const span_name&, const span_name&) = default;

private:
    std::array<char, 32> text_{};
};

/// What one rank did, and when. Appended to by the thread of that rank alone.
///
/// It grows by a span, of 128 bytes, for each kernel call and each native collective, and three for each exchange, until
/// reset(): a pass of a ring of P ranks appends 4 P of them, and a few for its checks.
class timeline {
public:
    using clock = std::chrono::steady_clock;

    /// pass        a forward or a backward, as whoever called it says
    /// kernel      a call of the kernel
    /// exchange    from before an exchange is posted until this rank knows that it is complete
    /// collective  a native collective of the communicator, or a split: the rank does nothing else
    /// post        the part of an exchange in which it is posted: between threads, often in which it is copied
    /// wait        a wait for an exchange
    /// A rank is at any time in at most one of kernel, collective, post and wait.
    enum class category : int { pass, kernel, exchange, collective, post, wait };

    /// Of an exchange or a collective: bytes to and from other ranks.
    struct transfer {
        std::size_t sent = 0, received = 0;
        int to = -1, from = -1; ///< ranks of the group that exchanges; -1: none, or several
    };
    /// Of a kernel call.
    struct tile {
        index_t batch = 0, rows = 0, keys = 0, heads = 0;
    };

    /// Trivially copyable: it travels as it is.
    struct span {
        category what = category::pass;
        span_name name; ///< of a pass or kernel call "forward", "backward"; else the operation, as `meter` names it
        clock::time_point begin, end;
        transfer moved; ///< of exchange and collective; of post and wait nothing, so that sums are right
        tile computed;  ///< of kernel
    };

    timeline() = default;
    /// Of a time that is not the machine's: now() says what that is.
    explicit timeline(std::function<clock::time_point()> now) : now_(std::move(now)) {}

    [[nodiscard]] clock::time_point now() const { return now_ ? now_() : clock::now(); }

    /// Throws nothing but bad_alloc. Amortised O(1).
    void add(span s) { spans_.push_back(std::move(s)); }

    /// In the order in which they ended.
    [[nodiscard]] const std::vector<span>& spans() const noexcept { return spans_; }

    /// Forgets all.
    void reset() noexcept { spans_.clear(); }

private:
    std::vector<span> spans_;
    std::function<clock::time_point()> now_; // none: that of the machine
};

static_assert(std::is_trivially_copyable_v<timeline::span>);
static_assert(sizeof(timeline::span) <= 128);

} // namespace seqpar
