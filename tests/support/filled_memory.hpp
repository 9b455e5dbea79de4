/// @file
/// Memory that has been used before. Fresh pages hold zeros, which hide who reads what nobody has written.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory_resource>

namespace seqpar::testing {

/// Lends memory whose bytes are all the same.
class filled_memory final : public std::pmr::memory_resource {
public:
    explicit filled_memory(unsigned char byte) : byte_(byte) {}

    /// Number of allocations so far.
    [[nodiscard]] std::size_t allocations() const noexcept { return allocations_; }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* const data = source_->allocate(bytes, alignment);
        ++allocations_;
        return std::memset(data, byte_, bytes);
    }
    void do_deallocate(void* data, std::size_t bytes, std::size_t alignment) override {
        source_->deallocate(data, bytes, alignment);
    }
    [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

    std::pmr::memory_resource* source_ = std::pmr::new_delete_resource();
    unsigned char byte_;
    std::atomic<std::size_t> allocations_ = 0;
};

/// NaN in every type of numbers, and negative counts.
inline constexpr unsigned char used_byte = 0xff;

/// What a test program calls first: from then on tensors, workspaces and scratch get used memory, unless they are told where
/// theirs comes from.
inline void lend_used_memory() {
    static filled_memory all(used_byte);
    std::pmr::set_default_resource(&all);
}

} // namespace seqpar::testing
