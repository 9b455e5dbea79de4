#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/meter.hpp>
#include <seqpar/comm/native.hpp>
#include <seqpar/comm/self.hpp>
#include <seqpar/comm/wait_until.hpp>

#include <chrono>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace seqpar {

/// A communicator that holds one and counts what this rank sends, by operation. Copies and splits count into the same meter.
///
/// The collectives name themselves ("all_to_all", "all_gather", ...); a caller names what it does with
/// `auto named = c.operation("preflight");`, and the outermost name wins. What is exchanged under no name is "exchange".
/// A native collective counts as one call, a message for each part to another rank, and no rounds. What a split itself
/// sends is not counted.
template <communicator C>
class metered {
public:
    class request {
    public:
        request() = default;

        void wait() {
            // A wait that throws is one too.
            if (const auto counts = std::move(counts_)) counts->waited();
            inner_.wait();
        }
        [[nodiscard]] bool test() { return inner_.test(); }
        [[nodiscard]] bool
        wait_until(std::chrono::steady_clock::time_point last) requires patient_request<request_t<C>> {
            return inner_.wait_until(last);
        }

    private:
        friend class metered;
        request_t<C> inner_;
        std::shared_ptr<meter> counts_; // null: nothing to wait for
    };

    explicit metered(C inner, std::shared_ptr<meter> counts = std::make_shared<meter>())
        : inner_(std::move(inner)), counts_(std::move(counts)) {}

    [[nodiscard]] int rank() const { return inner_.rank(); }
    [[nodiscard]] int size() const { return inner_.size(); }
    [[nodiscard]] meter& counts() const noexcept { return *counts_; }
    [[nodiscard]] const std::shared_ptr<meter>& shared_counts() const noexcept { return counts_; }

    request exchange(outgoing out, int to, incoming in, int from) {
        request posted;
        posted.inner_ = inner_.exchange(out, to, in, from);
        const std::size_t sent = to == inner_.rank() ? 0 : out.bytes;
        const std::size_t received = from == inner_.rank() ? 0 : in.bytes;
        counts_->exchanged(sent, received);
        if (out.bytes != 0 || in.bytes != 0) posted.counts_ = counts_;
        return posted;
    }

    metered split(int color, int key) {
        const auto named = operation("split");
        return metered(inner_.split(color, key), counts_);
    }

    [[nodiscard]] int rank_in_run(int member) const requires knows_run<C> { return inner_.rank_in_run(member); }

    /// Names what is exchanged while the guard lives.
    [[nodiscard]] meter::operation operation(std::string_view name) { return meter::begin(counts_, name); }

    void barrier() requires native_barrier<C> {
        const auto named = operation("barrier");
        inner_.barrier();
    }

    void all_to_all(std::span<const outgoing> out, std::span<const incoming> in) requires native_all_to_all<C> {
        const auto named = operation("all_to_all");
        inner_.all_to_all(out, in);
        for (std::size_t r = 0; r < out.size(); ++r)
            if (r != static_cast<std::size_t>(inner_.rank())) counts_->sent(out[r].bytes);
    }

private:
    C inner_;
    std::shared_ptr<meter> counts_;
};

static_assert(communicator<metered<self_communicator>>);
static_assert(names_operations<metered<self_communicator>>);

} // namespace seqpar
