/// @file
/// A fuzzer's bytes as the choices that a case is made of, one byte each. What is left out is the first choice.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace seqpar_fuzz {

class choices {
public:
    choices(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

    [[nodiscard]] unsigned byte() {
        if (left_.empty()) return 0;
        const unsigned first = left_.front();
        left_ = left_.subspan(1);
        return first;
    }
    /// low <= number <= high, at most 256 of them.
    [[nodiscard]] int whole(int low, int high) {
        return low + static_cast<int>(byte() % static_cast<unsigned>(high - low + 1));
    }
    [[nodiscard]] bool flag() { return whole(0, 1) == 1; }
    template <class T, std::size_t N>
    [[nodiscard]] T one_of(const std::array<T, N>& all) {
        return all[byte() % N];
    }

private:
    std::span<const std::uint8_t> left_;
};

} // namespace seqpar_fuzz
