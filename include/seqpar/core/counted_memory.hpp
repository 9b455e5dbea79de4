#pragma once

#include <algorithm>
#include <cstddef>
#include <memory_resource>

namespace seqpar {

/// A memory resource that knows how much of it is held, and how much was held at most. One rank's: not thread safe.
/// Given as options::memory it counts what an attention holds beyond its own tensors.
class counted_memory final : public std::pmr::memory_resource {
public:
    explicit counted_memory(std::pmr::memory_resource* upstream = std::pmr::get_default_resource())
        : upstream_(upstream) {}

    [[nodiscard]] std::size_t held() const noexcept { return held_; }
    [[nodiscard]] std::size_t peak() const noexcept { return peak_; }
    /// Number of allocations so far.
    [[nodiscard]] std::size_t allocations() const noexcept { return allocations_; }
    /// Forgets the peak: it starts again from what is held now.
    void reset_peak() noexcept { peak_ = held_; }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* data = upstream_->allocate(bytes, alignment);
        held_ += bytes;
        peak_ = std::max(peak_, held_);
        ++allocations_;
        return data;
    }
    void do_deallocate(void* data, std::size_t bytes, std::size_t alignment) override {
        upstream_->deallocate(data, bytes, alignment);
        held_ -= bytes;
    }
    [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* upstream_;
    std::size_t held_ = 0, peak_ = 0, allocations_ = 0;
};

} // namespace seqpar
