#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

namespace seqpar::plan {

/// Adds up what is held over the course of a pass, so that a formula for its peak can be written in the order in which the
/// strategy takes and gives back.
class ledger {
public:
    /// Bytes that are held as long as this lives. Move only.
    class lease {
    public:
        lease() = default;
        lease(lease&& other) noexcept
            : of_(std::exchange(other.of_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
        lease& operator=(lease&& other) noexcept {
            std::swap(of_, other.of_);
            std::swap(bytes_, other.bytes_);
            return *this;
        }
        ~lease() {
            if (of_ != nullptr) of_->held_ -= bytes_;
        }

    private:
        friend ledger;
        lease(ledger& of, std::size_t bytes) : of_(&of), bytes_(bytes) {}
        ledger* of_ = nullptr;
        std::size_t bytes_ = 0;
    };

    ledger() = default;
    ledger(const ledger&) = delete;
    ledger& operator=(const ledger&) = delete;

    [[nodiscard]] lease take(std::size_t bytes) {
        held_ += bytes;
        peak_ = std::max(peak_, held_);
        return {*this, bytes};
    }
    [[nodiscard]] std::size_t peak() const noexcept { return peak_; }

private:
    std::size_t held_ = 0, peak_ = 0;
};

} // namespace seqpar::plan
