#pragma once

#include <seqpar/comm/collectives/all_gather_doubling.hpp>
#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/native.hpp>
#include <seqpar/comm/self.hpp>
#include <seqpar/comm/wait_until.hpp>
#include <seqpar/core/timeline.hpp>

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace seqpar {

/// A communicator that holds one and writes down when this rank exchanges, posts and waits. Copies and splits write into
/// the same timeline. Where that is null, on all ranks alike, nothing is written, and exchanges cost nothing but a test of a
/// pointer.
///
/// Spans name ranks as the group does that this was made for, whatever has been split off: a split gathers those numbers,
/// in ceil(log2 P) messages and 4 bytes for each other rank of the new group, unless the inner communicator knows_run.
/// A span has the name of its operation, the outermost, as with metered; the bytes of all spans of a name are those that
/// metered counts under it. What is exchanged with no other rank leaves no span, nor does what fails or is withdrawn.
/// An exchange is complete when wait() or test() says so first. What the inner communicator names, too, hears the names.
template <communicator C>
class traced {
public:
    class request {
    public:
        request() = default;

        void wait() {
            const auto into = std::move(into_);
            if (!into) {
                inner_.wait();
                return;
            }
            const auto begin = into->now();
            inner_.wait();
            const auto end = into->now();
            complete(*into, end);
            into->add({timeline::category::wait, posted_.name, begin, end, {}, {}});
        }
        [[nodiscard]] bool test() {
            const bool done = inner_.test();
            if (done && into_) complete(*into_, into_->now());
            return done;
        }
        [[nodiscard]] bool
        wait_until(std::chrono::steady_clock::time_point last) requires patient_request<request_t<C>> {
            const auto begin = into_ ? into_->now() : timeline::clock::time_point{};
            const bool done = inner_.wait_until(last);
            if (!into_) return done;
            const auto end = into_->now();
            into_->add({timeline::category::wait, posted_.name, begin, end, {}, {}});
            if (done) complete(*std::exchange(into_, nullptr), end); // wait() has nothing to add
            return done;
        }

    private:
        friend class traced;

        void complete(timeline& into, timeline::clock::time_point now) {
            if (std::exchange(complete_, true)) return;
            posted_.end = now;
            into.add(posted_);
        }

        request_t<C> inner_;
        timeline::span posted_;
        bool complete_ = false;
        std::shared_ptr<timeline> into_; // null: there is nothing to write down
    };

    explicit traced(C inner, std::shared_ptr<timeline> into = std::make_shared<timeline>())
        : traced(std::move(inner), std::move(into), std::make_shared<std::string>(), nullptr) {}

    [[nodiscard]] int rank() const { return inner_.rank(); }
    [[nodiscard]] int size() const { return inner_.size(); }
    [[nodiscard]] C& inner() noexcept { return inner_; }
    [[nodiscard]] const std::shared_ptr<timeline>& shared_timeline() const noexcept { return into_; }

    request exchange(outgoing out, int to, incoming in, int from) {
        request posted;
        const std::size_t sent = to == rank() ? 0 : out.bytes, received = from == rank() ? 0 : in.bytes;
        if (!into_ || sent + received == 0) {
            posted.inner_ = inner_.exchange(out, to, in, from);
            return posted;
        }
        const auto begin = now();
        posted.inner_ = inner_.exchange(out, to, in, from);
        posted.posted_ = {timeline::category::exchange,
                          name(),
                          begin,
                          {},
                          {sent, received, sent != 0 ? known(to) : -1, received != 0 ? known(from) : -1},
                          {}};
        into_->add({timeline::category::post, name(), begin, now(), {}, {}});
        posted.into_ = into_;
        return posted;
    }

    traced split(int color, int key) {
        const auto named = operation("split");
        const auto begin = now();
        C part = inner_.split(color, key);
        std::shared_ptr<std::vector<int>> members;
        if (into_) {
            members = std::make_shared<std::vector<int>>(static_cast<std::size_t>(part.size()));
            timeline::transfer moved;
            if constexpr (knows_run<C>) {
                std::map<int, int> by_run;
                for (int r = 0; r < size(); ++r) by_run.emplace(inner_.rank_in_run(r), known(r));
                for (int r = 0; r < part.size(); ++r)
                    (*members)[static_cast<std::size_t>(r)] = by_run.at(part.rank_in_run(r));
            } else {
                const int mine = known(rank());
                collective::all_gather_doubling(part, {reinterpret_cast<const std::byte*>(&mine), sizeof mine},
                                                reinterpret_cast<std::byte*>(members->data()));
                moved.sent = moved.received = (members->size() - 1) * sizeof mine;
            }
            into_->add({timeline::category::collective, name(), begin, now(), moved, {}});
        }
        return traced(std::move(part), into_, now_, std::move(members));
    }

    /// Ends the operation that it was made for, if that is not inside another. Movable.
    template <class Inner>
    class guard {
    public:
        guard(guard&&) noexcept = default;
        guard& operator=(guard&&) = delete;
        ~guard() {
            if (now_) now_->clear();
        }

    private:
        friend class traced;
        guard(Inner inner, std::shared_ptr<std::string> now) : inner_(std::move(inner)), now_(std::move(now)) {}
        Inner inner_;
        std::shared_ptr<std::string> now_; // null: another operation is under way, or nothing is written down
    };

    /// Names what is exchanged while the guard lives.
    [[nodiscard]] auto operation(const char* name) {
        auto inner = detail::tell_operation(inner_, name);
        const bool outermost = into_ && now_->empty();
        if (outermost) *now_ = name;
        return guard<decltype(inner)>(std::move(inner), outermost ? now_ : nullptr);
    }

    void barrier() requires native_barrier<C> {
        const auto named = operation("barrier");
        const auto begin = now();
        inner_.barrier();
        if (into_) into_->add({timeline::category::collective, name(), begin, now(), {}, {}});
    }

    void all_to_all(std::span<const outgoing> out, std::span<const incoming> in) requires native_all_to_all<C> {
        const auto named = operation("all_to_all");
        const auto begin = now();
        inner_.all_to_all(out, in);
        if (!into_) return;
        const auto end = now();
        timeline::transfer moved;
        for (std::size_t r = 0; r < out.size(); ++r)
            if (r != static_cast<std::size_t>(rank())) moved.sent += out[r].bytes, moved.received += in[r].bytes;
        into_->add({timeline::category::collective, name(), begin, end, moved, {}});
    }

private:
    traced(C inner, std::shared_ptr<timeline> into, std::shared_ptr<std::string> now,
           std::shared_ptr<const std::vector<int>> members)
        : inner_(std::move(inner)), into_(std::move(into)), now_(std::move(now)), members_(std::move(members)) {}

    [[nodiscard]] timeline::clock::time_point now() const {
        return into_ ? into_->now() : timeline::clock::time_point{};
    }
    /// A rank of this group as the first group knows it.
    [[nodiscard]] int known(int member) const {
        return members_ ? (*members_)[static_cast<std::size_t>(member)] : member;
    }
    [[nodiscard]] span_name name() const { return now_->empty() ? "exchange" : std::string_view(*now_); }

    C inner_;
    std::shared_ptr<timeline> into_;
    std::shared_ptr<std::string> now_;                // the operation under way; empty: none
    std::shared_ptr<const std::vector<int>> members_; // null: this is the first group
};

static_assert(communicator<traced<self_communicator>>);
static_assert(names_operations<traced<self_communicator>>);

} // namespace seqpar
